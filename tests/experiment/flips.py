"""Flips bits at random places of every file of a run's folder.

  python -m tests.experiment.flips --places=100

After each flip `verify` must name a file, or what is read from the folder must
be as before: the config, the records, the checkpoint's arrays, every client's
state and the results. Then the bit is flipped back.
"""

import argparse
import contextlib
import io
import shutil
import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np

from fedjax_sim.experiment import metrics, workdir
from fedjax_sim.experiment import run as run_lib
from fedjax_sim.experiment.checkpoints import Checkpoints
from fedjax_sim.experiment.verify import verify
from fedjax_sim.simulation.placement.client_store import ClientStore
from tests.experiment import kills

# Of digits' logistic regression: what SCAFFOLD keeps of a client.
_OWN = 65 * 10 * 4


def copied(folder: Path, to: Path) -> Path:
  """A copy of a run's folder, to be damaged."""
  shutil.copytree(folder, to)
  return to


def flip(file: Path, place: int) -> None:
  """Flips one bit, in place."""
  with open(file, 'r+b') as opened:
    opened.seek(place // 8)
    byte = opened.read(1)[0] ^ 1 << place % 8
    opened.seek(place // 8)
    opened.write(bytes([byte]))


def tried(whole: Path, copy: Path, count: int, seed: int) -> dict[str, int]:
  """Flips `count` bits of every file of a copy, one at a time.

  Returns:
    The numbers of files and of flips, and how many were noticed.
  """
  copied(whole, copy)
  want, rng = read(copy), np.random.default_rng(seed)
  found = {'files': 0, 'flips': 0, 'noticed': 0}
  for file in sorted(copy.rglob('*')):
    size = _size(file)
    if not size:
      continue
    found['files'] += 1
    for place in rng.integers(0, 8 * size, count).tolist():
      flip(file, place)
      try:
        verify(copy)
        if file.name == 'records.bin':
          _states(copy)
        noticed = False
      except ValueError as error:
        noticed = True
        assert str(copy) in str(error)
      if not noticed and file.name != 'records.bin':
        assert read(copy) == want, f'{file}, bit {place}'
      found['flips'] += 1
      found['noticed'] += noticed
      flip(file, place)
  assert read(copy) == want
  return found


def read(folder: Path) -> dict[str, object]:
  """All that a run's folder says, in comparable form."""
  with Checkpoints(folder / 'checkpoints', keep=None) as saved:
    arrays = saved.arrays(saved.latest())
  with zipfile.ZipFile(folder / 'final_params.npz') as archive:
    final = {name: archive.read(name) for name in archive.namelist()}
  return {
      'config': workdir.read_json(folder / 'config.json'),
      'clients': workdir.read_json(folder / 'clients.json'),
      'results': workdir.read_json(folder / 'results.json'),
      'records': metrics.read(folder / 'metrics.jsonl'), 'final': final,
      'checkpoint': {name: x.tobytes() for name, x in arrays.items()}}


def _states(folder: Path) -> None:
  """Reads every client's stored state."""
  with Checkpoints(folder / 'checkpoints', keep=None) as saved:
    latest = saved.latest()
    table, = (x for name, x in saved.arrays(latest).items()
              if name.startswith('clients/'))
  meta = workdir.read_json(folder / 'client_states' / 'store.json')
  first = [np.zeros(shape, dtype) for dtype, shape in meta['leaves']]
  store = ClientStore(folder / 'client_states', len(table), first)
  store._write_meta = lambda: None  # Only looks.
  store.adopt(table, latest)
  store.read(np.arange(len(table)))


def _size(file: Path) -> int:
  """Bytes that mean something; the file of states is longer."""
  if not file.is_file():
    return 0
  size = file.stat().st_size
  return min(size, 21 * (_OWN + 4)) if file.name == 'records.bin' else size


def main(places: int) -> None:
  """Makes a run, flips bits, and prints what came of it."""
  with tempfile.TemporaryDirectory() as root:
    whole = Path(root) / 'whole'
    with contextlib.redirect_stdout(io.StringIO()):
      assert run_lib.run(kills.config(), 'test', workdir_path=whole) == 0
    found = tried(whole, Path(root) / 'copy', places, seed=0)
    print(f'{places} flipped bits in each of {found["files"]} files: of '
          f'{found["flips"]}, {found["noticed"]} were noticed, with the file '
          'named, and the others changed nothing that is read')


if __name__ == '__main__':
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--places', type=int, default=100)
  main(parser.parse_args(sys.argv[1:]).places)
