"""Who takes part in speed.py, in which environment, and the line to them."""

import contextlib
import json
import os
import queue
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import tasks

ROOT = Path(__file__).parent.parent
REQUIREMENTS = Path(__file__).parent / 'peers' / 'requirements'


class Contender(NamedTuple):
  """Somebody who runs rounds; the modules' docstrings say what is timed.

  Attributes:
    name: on the command line.
    title: in the table.
    module: in benchmarks/peers.
    environment: the virtual environment, of a file in peers/requirements; ''
      is the one that speed.py runs in.
    threads: whether the number of CPU threads can be set; then one and all
      cores are tried, and the faster is used.
    max_repeats: most turns in a task, where one takes minutes.
    options: what only this worker understands.
    variables: environment variables of its process.
    root: the checkout that it runs from, this one if None.
    daemons: whether it has processes that work even while it is not its turn;
      then it is measured beside ours alone, and disturbs no one else.
  """

  name: str
  title: str
  module: str
  environment: str = ''
  threads: bool = False
  max_repeats: dict[str, int] = {}
  options: dict[str, Any] = {}
  variables: dict[str, str] = {}
  root: Path | None = None
  daemons: bool = False

  @property
  def python(self) -> Path:
    """The interpreter to run the worker with."""
    if not self.environment:
      return Path(sys.executable)
    return folder(self.environment) / 'bin' / 'python'


CONTENDERS = {contender.name: contender for contender in (
    Contender('ours', 'fedjax_sim', 'ours'),
    Contender('ours_one_device', 'fedjax_sim, one device', 'ours',
              options={'devices': 1}),
    Contender('ours_processes', 'fedjax_sim, a process for each core', 'ours',
              options={'processes': tasks.cores()}),
    Contender('jax', 'plain JAX, vmapped, flax `nn.Conv`', 'jax_vmap',
              max_repeats={'mnist_cnn': 1}),
    Contender('torch', 'PyTorch, a loop over clients', 'torch_loop', 'torch',
              threads=True),
    Contender('torch_vmap', 'PyTorch, `torch.func.vmap`', 'torch_vmap',
              'torch', threads=True),
    Contender('fedjax', 'FedJAX', 'fedjax_fedavg', 'fedjax'),
    Contender('flower', 'Flower', 'flower', 'flower', daemons=True),
    Contender('pfl', 'pfl-research', 'pfl_fedavg', 'pfl', threads=True),
)}


class WorkerError(RuntimeError):
  """A worker ended, or could not start; the message says why."""


def folder(environment: str) -> Path:
  """Where a virtual environment is, or would be."""
  cache = os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache'
  return Path(cache) / 'fedjax_sim' / 'benchmarks' / environment


def setup(
    environment: str, requirements: Path = REQUIREMENTS,
    least: tuple[int, int] = (3, 11),
) -> None:
  """Makes a virtual environment with the pinned packages, if it isn't there.

  Args:
    environment: its name.
    requirements: the folder with its file of packages.
    least: version of Python that the packages need.

  Raises:
    ValueError: there is no such Python.
  """
  if is_set_up(environment, requirements):
    return
  target, file = folder(environment), requirements / f'{environment}.txt'
  python = _interpreter(least)
  print(f'setting up {environment}', flush=True)
  subprocess.run(
      [python, '-m', 'venv', '--clear', target], check=True)
  subprocess.run([target / 'bin' / 'python', '-m', 'pip', 'install',
                  '--quiet', '--requirement', file], check=True)
  (target / 'requirements.txt').write_text(file.read_text())


def _interpreter(least: tuple[int, int]) -> str:
  """This Python, or a newer one on the path where it is too old."""
  if sys.version_info[:2] >= least:
    return sys.executable
  major, minor = least
  for version in range(minor, minor + 4):
    found = shutil.which(f'python{major}.{version}')
    if found and not subprocess.run(
        [found, '--version'], capture_output=True).returncode:
      return found
  raise ValueError(
      f'this environment needs Python {major}.{minor} or newer, as '
      f'python{major}.{minor} on the path; this is Python '
      f'{sys.version_info[0]}.{sys.version_info[1]}.')


def is_set_up(environment: str, requirements: Path = REQUIREMENTS) -> bool:
  """Whether there is one with what is now required."""
  with contextlib.suppress(FileNotFoundError):
    done = (folder(environment) / 'requirements.txt').read_text()
    return done == (requirements / f'{environment}.txt').read_text()
  return not environment


class Worker:
  """A contender at work on a task, in a process of its own.

  The process is started at once; `ready` waits until it has set itself up, so
  that several can do that side by side.

  Attributes:
    contender: who.
    patience: seconds to wait for an answer; None is forever.
  """

  def __init__(
      self, contender: Contender, task: tasks.Task, arrays: Path,
      patience: float | None = None,
  ):
    self.contender = contender
    self.patience = patience
    job = arrays.with_name(f'{contender.name}.json')
    job.write_text(json.dumps({
        'task': task._asdict(), 'cores': tasks.cores(), 'data': str(arrays),
        'options': contender.options}))
    self._log = job.with_suffix('.log')
    # JAX must not take all of a GPU's memory from those that come after it.
    root = contender.root or ROOT
    environment = os.environ | {
        'PYTHONPATH': os.pathsep.join(
            [str(root), os.environ.get('PYTHONPATH', '')]).strip(os.pathsep),
        'XLA_PYTHON_CLIENT_PREALLOCATE': 'false',
        'FLWR_TELEMETRY_ENABLED': '0', 'RAY_USAGE_STATS_ENABLED': '0',
    } | contender.variables
    with self._log.open('w') as log:
      self._process = subprocess.Popen(
          [contender.python, '-m', f'benchmarks.peers.{contender.module}',
           str(job)], cwd=root, env=environment, stdin=subprocess.PIPE,
          stdout=subprocess.PIPE, stderr=log, text=True)
    self._lines: queue.Queue[str] = queue.Queue()
    threading.Thread(target=self._read, daemon=True).start()

  def _read(self) -> None:
    for line in self._process.stdout:
      self._lines.put(line)
    self._lines.put('')

  def ready(self) -> dict[str, Any]:
    """Waits for the process to be set up; its device and versions."""
    return self._answer()

  def ask(self, do: str, **arguments) -> dict[str, Any]:
    """Sends a command and returns the answer."""
    line = json.dumps({'do': do, **arguments})
    with contextlib.suppress(BrokenPipeError):
      self._process.stdin.write(line + '\n')
      self._process.stdin.flush()
    return self._answer()

  def _answer(self) -> dict[str, Any]:
    try:
      line = self._lines.get(timeout=self.patience)
    except queue.Empty:
      self.kill()
      raise WorkerError(f'{self.contender.name}: no answer within '
                        f'{self.patience:.0f} s.') from None
    if not line:
      last = self._log.read_text().strip().splitlines()[-1:]
      raise WorkerError(f'{self.contender.name}: {"".join(last)}')
    return json.loads(line)

  def kill(self) -> None:
    """Ends the process at once."""
    self._process.kill()
    self._process.wait()

  def close(self) -> None:
    """Ends the process."""
    with contextlib.suppress(BrokenPipeError):
      self._process.stdin.close()
    try:
      self._process.wait(timeout=30)
    except subprocess.TimeoutExpired:
      self.kill()


@contextlib.contextmanager
def started(
    contenders: list[Contender], task: tasks.Task, arrays: Path
) -> Iterator[list[tuple[Worker, dict[str, Any]]]]:
  """Workers, one after the other; those that can't start are told and left.

  Yields:
    (worker, what its `ready` gave) of each that has started.
  """
  with contextlib.ExitStack() as stack:
    workers = []
    for contender in contenders:
      if not contender.python.exists():
        print(f'{contender.name}: skipped; to set it up: python -m '
              f'benchmarks.speed --setup {contender.environment}', flush=True)
        continue
      try:
        worker = Worker(contender, task, arrays)
        stack.callback(worker.close)
        workers.append((worker, worker.ready()))
      except WorkerError as error:
        print(f'skipped: {error}', flush=True)
    yield workers
