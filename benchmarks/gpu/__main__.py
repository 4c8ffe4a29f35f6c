"""All that ten minutes of one GPU should give, the most valuable first.

  python -m benchmarks.gpu [--out DIR] [--seconds 500]   measure
  python -m benchmarks.gpu --rehearse                    tiny, on a CPU
  python -m benchmarks.gpu --report                      table into docs/gpu.md

Runs in one environment with jax (with CUDA), flax, optax and torch, from any
copy of this folder: neither git nor an installed package is needed. MNIST's
four idx files (gzipped, 11 MB) are in $FEDJAX_SIM_DATA_DIR; $COMMIT names the
revision where there is no git. The paper's cells need ml_collections as well.

Blocks (`blocks.py`) come first, then pfl-research's CIFAR-10 benchmark, then
cells of the paper with the time that is left. Each is bounded, and is written
to DIR/gpu.jsonl (DIR/cells.jsonl) the moment it is done; DIR is $OUT, or
benchmarks/results. In a block processes start and set up together, only one
compiles at a time, and only one computes while others are measured.

Products are in TensorFloat-32 for everybody, unless a block says otherwise.
"""

import argparse
import contextlib
import datetime
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path

from benchmarks import speed
from benchmarks.contenders import ROOT
from benchmarks.gpu import blocks as blocks_lib
from benchmarks.gpu import report
from benchmarks.gpu.measure import Clock, measure

_PAPER_PROCESSES = 3
# The paper's process needs this to load, compile and write.
_LEAST_SECONDS = 20


def main() -> None:
  arguments = _parse()
  if arguments.report:
    report.write()
    return
  out = arguments.out
  out.mkdir(parents=True, exist_ok=True)
  _share_programs(out)
  clock = Clock(arguments.seconds)
  begun = time.monotonic()
  say = lambda text: print(
      f'### {time.monotonic() - begun:.0f} s: {text}', flush=True)
  chosen = [b for b in blocks_lib.blocks() if not arguments.only
            or b.name in arguments.only]
  for block in chosen:
    if clock.left < _LEAST_SECONDS:
      say(f'no time for {block.name}')
      continue
    if arguments.rehearse:
      block = blocks_lib.tiny(block)
    say(f'{block.name}, at most {min(block.seconds, clock.left):.0f} s')
    with _noted(block.name):
      results = measure(
          block, Clock(min(block.seconds, clock.left)), out / 'compile.lock',
          out / f'{block.name}.trace.json.gz'
          if block.name in arguments.trace else None)
      _append(out, block=block.name, task=block.task._asdict(),
              predicted=block.predicted, contenders=results)
      print(report.lines(block.name, results), flush=True)
  if not arguments.only or 'cifar10' in arguments.only:
    say('cifar10')
    with _noted('cifar10'):
      _cifar10(out, arguments.rehearse, clock)
  if not arguments.only or 'paper' in arguments.only:
    say(f'paper, {clock.left:.0f} s left')
    with _noted('paper'):
      _paper(out, arguments, clock)
  say('done')
  (out / 'compile.lock').unlink(missing_ok=True)


@contextlib.contextmanager
def _noted(name: str):
  """One part's failure must not cost the others."""
  try:
    yield
  except Exception:
    print(f'{name} failed:', flush=True)
    traceback.print_exc(file=sys.stdout)


def _share_programs(out: Path) -> None:
  """One compilation cache for all processes, which start out of it."""
  cache = out / 'programs' if 'OUT' not in os.environ else (
      Path(tempfile.gettempdir()) / 'programs')
  os.environ.setdefault('JAX_COMPILATION_CACHE_DIR', str(cache))
  os.environ.setdefault('JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS', '0')
  os.environ.setdefault('FEDJAX_SIM_CACHE_DIR', str(cache.parent / 'cache'))


def _append(out: Path, **result) -> None:
  line = json.dumps({
      **result, 'device': _device(), 'date': datetime.date.today().isoformat(),
      'git_commit': speed.commit(), 'machine': speed.machine()})
  with (out / 'gpu.jsonl').open('a') as file:
    file.write(line + '\n')


def _device() -> str:
  """The card's name and driver, without starting it in this process."""
  with contextlib.suppress(OSError, subprocess.SubprocessError):
    return subprocess.run(
        ['nvidia-smi', '--query-gpu=name,driver_version',
         '--format=csv,noheader'], check=True, capture_output=True,
        text=True).stdout.strip()
  return 'cpu'


def _cifar10(out: Path, rehearse: bool, clock: Clock) -> None:
  """pfl-research's benchmark, its own process."""
  if clock.left < _LEAST_SECONDS:
    print('no time', flush=True)
    return
  rounds = 2 if rehearse else 1500
  lanes = 2 if rehearse else 50
  subprocess.run(
      [sys.executable, '-m', 'benchmarks.cifar10', '--rounds', str(rounds),
       '--lanes', str(lanes), '--devices', '1',
       '--precision', 'tensorfloat32',
       '--out', str(out / 'cifar10.jsonl')], cwd=ROOT,
      timeout=min(120, clock.left), check=True)


def _paper(out: Path, arguments, clock: Clock) -> None:
  """Cells of the paper, several processes on the one card."""
  minutes = (clock.left - _LEAST_SECONDS) / 60
  if minutes < 0.5 and not arguments.rehearse:
    print('no time', flush=True)
    return
  store = ROOT / 'benchmarks' / 'results' / 'paper' / 'cells.jsonl'
  command = [
      sys.executable, '-m', 'benchmarks.paper', 'run',
      *(arguments.cells or ['--all']), '--budget-minutes',
      f'{max(0.05, minutes):.2f}', '--seeds', '3']
  environment = os.environ | {'XLA_PYTHON_CLIENT_PREALLOCATE': 'false'}
  running = [
      subprocess.Popen(command, cwd=ROOT, env=environment)
      for _ in range(1 if arguments.rehearse else _PAPER_PROCESSES)]
  while any(process.poll() is None for process in running):
    time.sleep(2)
    shutil.copy(store, out / 'cells.jsonl')
    if clock.left < 3:
      for process in running:
        process.kill()
  shutil.copy(store, out / 'cells.jsonl')


def _parse() -> argparse.Namespace:
  parser = argparse.ArgumentParser(
      prog='python -m benchmarks.gpu', description=__doc__,
      formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument(
      '--out', type=Path,
      default=Path(os.environ.get('OUT', ROOT / 'benchmarks' / 'results')))
  parser.add_argument('--seconds', type=float, default=500)
  parser.add_argument('--rehearse', action='store_true')
  parser.add_argument('--report', action='store_true')
  parser.add_argument('--only', nargs='+', metavar='BLOCK',
                      help='names of blocks, cifar10, paper')
  parser.add_argument('--trace', nargs='+', metavar='BLOCK', default=(),
                      help='blocks whose last contender is profiled')
  parser.add_argument('--cells', nargs=argparse.REMAINDER,
                      help='last: what to tell benchmarks.paper, not --all')
  return parser.parse_args()


if __name__ == '__main__':
  main()
