"""How long a new process takes to its first round's record.

  python -m benchmarks.first_result [--repeats 5] [--cores 2] [--jobs cnn]

From the start of the process, with all imports: the Python example of
README.md, `run.py --config=configs/digits_quickstart.py`, and a flax CNN of
one's own with plain `nn.Conv` on scikit-learn's digits. Each cold, with an
empty cache folder, and warm, as the next process with the same folder. Medians
are printed, and a line for each job goes to
benchmarks/results/first_result.jsonl, with the processors' seconds, and with
the share of the machine that other programs used meanwhile: above a tenth the
times on the clock say little.
"""

import argparse
import datetime
import json
import os
import re
import runpy
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / 'benchmarks' / 'results' / 'first_result.jsonl'
_TIME_FILE = 'FIRST_RESULT_FILE'


def readme() -> None:
  """The first example in the README that simulates."""
  blocks = re.findall(r'```py(?:thon)?\n(.*?)```',
                      (ROOT / 'README.md').read_text(), re.DOTALL)
  code = next(block for block in blocks if 'fs.simulate(' in block)
  exec(compile(code, 'README.md', 'exec'), {'__name__': '__main__'})


def quickstart() -> None:
  """The command line, with a config that needs no download."""
  sys.argv = ['run.py', f'--config={ROOT}/configs/digits_quickstart.py',
              f'--workdir={os.environ["FEDJAX_SIM_CACHE_DIR"]}/run-{os.getpid()}']
  sys.path.insert(0, str(ROOT))
  runpy.run_path(str(ROOT / 'run.py'), run_name='__main__')


def cnn() -> None:
  """Two convolutions of flax, as its documentation writes them."""
  import optax
  from flax import linen as nn

  import fedjax_sim as fs

  class Net(nn.Module):
    @nn.compact
    def __call__(self, x):
      x = x.astype('float32') / 255
      x = nn.relu(nn.Conv(32, (3, 3))(x))
      x = nn.max_pool(x, (2, 2), (2, 2))
      x = nn.relu(nn.Conv(64, (3, 3))(x))
      x = nn.relu(nn.Dense(64)(x.reshape(len(x), -1)))
      return nn.Dense(10)(x)

  fs.use_all_cores()
  digits = fs.data.load('digits')
  parts = fs.data.partition.iid(len(digits.train['y']), 20, seed=0)
  model = fs.models.from_linen(Net())
  fs.simulate(
      model, fs.algorithms.fedavg(model, optax.sgd(0.1), batch_size=10),
      fs.data.federate(digits.train, parts), rounds=20, client_fraction=0.5,
      test=digits.test)


JOBS = {'readme': readme, 'quickstart': quickstart, 'cnn': cnn}


def child(job: str) -> None:
  """Runs a job to its first record, notes the time, and ends."""
  from fedjax_sim.simulation import records

  make = records.record

  def first_record(*args, **kwargs):
    make(*args, **kwargs)
    Path(os.environ[_TIME_FILE]).write_text(repr(time.time()))
    sys.stdout.flush()
    os._exit(0)

  records.record = first_record
  JOBS[job]()


def seconds(job: str, cache: Path) -> float:
  """From the start of a process to its first record.

  Raises:
    RuntimeError: it ended before; with the end of what it has written.
  """
  environment = {name: value for name, value in os.environ.items()
                 if not name.startswith(('JAX_', 'XLA_', 'FEDJAX_SIM_'))}
  noted = cache / 'time'
  noted.unlink(missing_ok=True)
  environment |= {'FEDJAX_SIM_CACHE_DIR': str(cache), 'JAX_PLATFORMS': 'cpu',
                  _TIME_FILE: str(noted)}
  begun = time.time()
  done = subprocess.run(
      [sys.executable, '-m', 'benchmarks.first_result', '--child', job],
      cwd=ROOT, env=environment, text=True, stdout=subprocess.PIPE,
      stderr=subprocess.STDOUT)
  if not noted.is_file():
    raise RuntimeError(f'{job} has no first record: {done.stdout[-2000:]}')
  return float(noted.read_text()) - begun


def measure(job: str, repeats: int) -> dict:
  """Times of a job, cold and warm by turns."""
  from fedjax_sim.core import machine_load
  found = {'job': job, 'cold': [], 'warm': [], 'cold_processors': [],
           'warm_processors': [], 'others': []}
  for _ in range(repeats):
    with tempfile.TemporaryDirectory() as folder:
      for kind in ('cold', 'warm'):
        # This process waits; what it started is none of the others.
        load, children = machine_load.now(), os.times()
        found[kind].append(seconds(job, Path(folder)))
        own = sum(os.times()[2:4]) - sum(children[2:4])
        now = machine_load.now()
        found[f'{kind}_processors'].append(own)
        found['others'].append(now._replace(
            others=now.others - own).share_since(load))
  return found


def main() -> None:
  parser = argparse.ArgumentParser()
  parser.add_argument('--child', choices=JOBS, help=argparse.SUPPRESS)
  parser.add_argument('--repeats', type=int, default=5)
  parser.add_argument('--cores', type=int, default=2)
  parser.add_argument('--jobs', nargs='+', choices=JOBS, default=list(JOBS))
  parser.add_argument('--out', type=Path, default=RESULTS)
  arguments = parser.parse_args()
  if arguments.child:
    child(arguments.child)
    return
  if hasattr(os, 'sched_setaffinity'):
    cores = sorted(os.sched_getaffinity(0))[:arguments.cores]
    os.sched_setaffinity(0, cores)
  from fedjax_sim.experiment import workdir
  for job in arguments.jobs:
    found = measure(job, arguments.repeats)
    middle = {name: statistics.median(values)
              for name, values in found.items() if name != 'job'}
    print(f'{job:<12} ' + ''.join(
        f'{kind} {middle[kind]:5.1f} s (processors '
        f'{middle[kind + "_processors"]:.1f} s)  ' for kind in ('cold', 'warm'))
        + f'others used {middle["others"]:.0%} of the machine', flush=True)
    with arguments.out.open('a') as file:
      file.write(json.dumps(found | {
          'cores': arguments.cores, 'date': datetime.date.today().isoformat(),
          'environment': workdir.environment()}) + '\n')


if __name__ == '__main__':
  main()
