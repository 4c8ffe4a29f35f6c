"""One block: processes start together, set up, and take turns."""

import contextlib
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks import speed
from benchmarks import tasks as tasks_lib
from benchmarks.contenders import Worker, WorkerError
from benchmarks.gpu.blocks import Block

# A turn takes about so long: many rounds where they are short, so that the
# host's part of a dispatch counts as it does in a run.
_TURN_SECONDS = 0.25
_MOST_ROUNDS = 100
_TURNS = 5
_LONGEST_SECONDS = 5.0


class Clock:
  """Seconds that are left of a time limit."""

  def __init__(self, seconds: float):
    self._end = time.monotonic() + seconds

  @property
  def left(self) -> float:
    return self._end - time.monotonic()


def measure(
    block: Block, clock: Clock, lock: Path, trace: Path | None = None
) -> dict[str, Any]:
  """Measures a block; who fails or is too slow is left out.

  Args:
    block: what to measure.
    clock: of the block.
    lock: a file that whoever compiles for the GPU holds: XLA times its kernels
      then, and must do that alone.
    trace: gets a profile of one round of the last contender; None takes none.

  Returns:
    Contender -> what `speed.summary` gives, or `error` in words.
  """
  results: dict[str, dict[str, Any]] = {}
  with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
    arrays = Path(folder) / 'arrays.npz'
    tasks_lib.write_arrays(block.task, arrays)
    workers = {}
    for contender in block.contenders:
      contender = contender._replace(
          options=contender.options | {'compile_lock': str(lock)})
      workers[contender.name] = Worker(contender, block.task, arrays)
      stack.callback(workers[contender.name].kill)
    for name, worker in list(workers.items()):
      with _excused(name, workers, results):
        worker.patience = max(1.0, clock.left)
        results[name] = worker.ready() | {
            'options': worker.contender.options, 'seconds': []}
    for name, worker in list(workers.items()):
      with _excused(name, workers, results):
        worker.patience = max(1.0, clock.left / 2)
        results[name] |= _warm_up(worker, block.task)
        print(f'{block.name}: {name}: {block.task.measure} '
              f'{results[name][block.task.measure]:.4f}, '
              f'{1e3 * results[name]["first"]:.2f} ms', flush=True)
    for turn in range(_TURNS):
      for name, worker in list(workers.items()):
        # Whoever takes seconds a round has a turn or two.
        if turn * results[name]['first'] > _LONGEST_SECONDS or clock.left < 1:
          continue
        with _excused(name, workers, results):
          worker.patience = max(1.0, clock.left)
          seconds = worker.ask('rounds', count=_rounds(results[name]))
          results[name]['seconds'].append(seconds['seconds'])
    if trace and block.contenders[-1].name in workers:
      with contextlib.suppress(WorkerError):
        workers[block.contenders[-1].name].ask(
            'rounds', count=1, trace=str(Path(folder) / 'trace'))
        for file in Path(folder).rglob('*.trace.json.gz'):
          shutil.copy(file, trace)
  return _summary(block, results)


@contextlib.contextmanager
def _excused(name: str, workers, results):
  """Leaves a contender out that fails, and notes why."""
  try:
    yield
  except WorkerError as error:
    print(f'left out: {error}', flush=True)
    workers.pop(name)
    results[name] = {'error': str(error)}


def _warm_up(worker: Worker, task) -> dict[str, Any]:
  """The rounds before the check; the last one's seconds as `first`."""
  seconds = [worker.ask('rounds', count=1)['seconds']
             for _ in range(task.check_rounds)]
  return worker.ask('evaluate') | {'first': min(seconds)}


def _rounds(result: dict[str, Any]) -> int:
  """How many rounds make a turn."""
  return max(1, min(_MOST_ROUNDS, int(_TURN_SECONDS / result['first'])))


def _summary(block: Block, results) -> dict[str, Any]:
  reference = block.contenders[0].name
  complete = {name: r for name, r in results.items() if r.get('seconds')}
  renamed = {('ours' if name == reference else name): r
             for name, r in complete.items()}
  return {**speed.summary(block.task, renamed), **{
      name: {'error': r.get('error', 'no turn in time')}
      for name, r in results.items() if name not in complete}}
