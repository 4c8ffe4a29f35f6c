"""Whether the scripts of docs/migration.md give the same parameters.

  python -m benchmarks.speed --setup fedjax     FedJAX's environment
  python -m benchmarks.migration

The page's three scripts are run as they stand there: for FedJAX 0.0.17, with
`fs.for_each_client`, and by the engine. Two federations:

  any    clients of 1 to 60 examples. FedJAX and `for_each_client` are compared:
         the orders of examples are the same, as the seeds are.
  order  clients whose size divides the batch size, so that every batch holds
         all of a client's examples equally often, and its gradient does not
         depend on their order. The engine, which draws orders of its own, is
         compared too.

The largest differences of parameters, and how far these moved, go to
benchmarks/results/migration.jsonl and into the page.
"""

import datetime
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from benchmarks import contenders
from fedjax_sim import data
from fedjax_sim.experiment import workdir

PAGE = contenders.ROOT / 'docs' / 'migration.md'
RESULTS = Path(__file__).parent / 'results' / 'migration.jsonl'
SIZES = {'any': [1, 60, 7, 20, 33, 5, 41, 2, 19, 28, 13, 50],
         'order': [4, 20, 10, 5, 20, 2, 10, 1, 20, 5]}


def scripts() -> list[str]:
  """The page's Python blocks: for FedJAX, `for_each_client`, engine, more."""
  return re.findall(r'```python\n(.*?)```', PAGE.read_text(), re.S)


def clients(sizes: list[int]):
  """(id, arrays) with labels that a small network can learn."""
  rng = np.random.default_rng(0)
  to_label = rng.normal(size=(8, 3))
  for i, size in enumerate(sizes):
    x = rng.normal(loc=rng.normal(size=8) / 2, size=(size, 8))
    yield b'client %d' % i, {
        'x': x.astype(np.float32),
        'y': (x @ to_label).argmax(-1).astype(np.int32)}


def run(python: Path | str, script: str, folder: str) -> dict[str, np.ndarray]:
  """`params` at the end of a script that finds `clients.sqlite`."""
  subprocess.run(
      [python, '-c', f'{script}\nnp.savez("params.npz", **params)'], check=True,
      cwd=folder, env=os.environ | {'PYTHONPATH': str(contenders.ROOT)})
  with np.load(Path(folder) / 'params.npz') as params:
    return dict(params)


def difference(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> float:
  """The largest over all parameters."""
  return max(float(np.abs(a[name] - b[name]).max()) for name in a)


def compare(sizes: list[int], engine: bool) -> dict[str, float]:
  """Largest differences from FedJAX's parameters."""
  old, loop, rounds, *_ = scripts()
  with tempfile.TemporaryDirectory() as folder:
    data.write_sqlite(Path(folder) / 'clients.sqlite', clients(sizes))
    theirs = run(
        contenders.folder('fedjax') / 'bin' / 'python', old, folder)
    start = run(sys.executable, loop.replace('range(20)', 'range(0)'), folder)
    found = {'moved': difference(theirs, start), 'for_each_client': difference(
        theirs, run(sys.executable, loop, folder))}
    if engine:
      found['engine'] = difference(
          theirs, run(sys.executable, loop + rounds, folder))
  return found


def table(found: dict[str, dict[str, float]]) -> str:
  """The page's lines."""
  titles = {'any': 'clients of 1 to 60 examples',
            'order': 'clients of 1 to 20 examples, sizes that divide 20'}
  rows = ['| largest difference from FedJAX | `for_each_client` | engine | '
          'parameters moved by up to |', '|---|---|---|---|']
  for name, title in titles.items():
    cells = [f'{found[name][k]:.2g}' if k in found[name] else '-'
             for k in ('for_each_client', 'engine', 'moved')]
    rows.append(f'| {title} | {" | ".join(cells)} |')
  return '\n'.join(rows)


def main() -> None:
  found = {name: compare(sizes, engine=name == 'order')
           for name, sizes in SIZES.items()}
  for name, differences in found.items():
    print(name, ', '.join(f'{k} {v:.2g}' for k, v in differences.items()))
  PAGE.write_text(re.sub(
      r'(?<=<!-- migration -->\n).*(?=<!-- end migration -->)',
      table(found) + '\n', PAGE.read_text(), flags=re.S))
  requirements = contenders.REQUIREMENTS / 'fedjax.txt'
  with RESULTS.open('a') as file:
    file.write(json.dumps({
        'difference': found, 'sizes': SIZES,
        'fedjax': requirements.read_text().split(),
        'date': datetime.date.today().isoformat(),
        'environment': workdir.environment()}) + '\n')


if __name__ == '__main__':
  main()
