"""Imports go one way; importing starts no backend and reads no data."""

import ast
import subprocess
import sys
from pathlib import Path

PACKAGE = Path(__file__).parent.parent / 'fedjax_sim'

# Each folder may import those in earlier rows, and itself. Folders of one row
# don't import each other.
LAYERS = [
    ['core'],
    ['data', 'models', 'clients', 'aggregation'],
    ['algorithms', 'systems', 'privacy'],
    ['simulation'],
    ['experiment', 'fedjax'],
]


def part_of(module):
  return module.split('.')[1] if '.' in module else None


def imports():
  """(file, importing part, imported part) for the package's own imports."""
  for file in sorted(PACKAGE.rglob('*.py')):
    relative = file.relative_to(PACKAGE)
    importer = relative.parts[0].removesuffix('.py')
    for node in ast.walk(ast.parse(file.read_text())):
      names = []
      if isinstance(node, ast.Import):
        names = [alias.name for alias in node.names]
      elif isinstance(node, ast.ImportFrom) and node.module:
        names = ([f'{node.module}.{alias.name}' for alias in node.names]
                 if node.module == 'fedjax_sim' else [node.module])
      for name in names:
        if name.startswith('fedjax_sim') and part_of(name):
          yield relative, importer, part_of(name)


def test_imports_go_one_way():
  level = {part: i for i, row in enumerate(LAYERS) for part in row}
  assert level.keys() == {
      path.parent.name for path in PACKAGE.glob('*/__init__.py')}
  found = list(imports())
  assert len(found) > 50
  for file, importer, imported in found:
    if importer in ('__init__', imported):
      continue
    assert importer in level, f'{file}: {importer} has no layer'
    assert level[imported] < level[importer], (
        f'{file}: {importer} must not import {imported}')


def test_no_module_lies_beside_the_folders():
  assert [file.name for file in PACKAGE.glob('*.py')] == ['__init__.py']


def test_no_two_files_have_one_name():
  names = [file.name for file in PACKAGE.rglob('*.py')
           if file.name != '__init__.py']
  assert sorted(names) == sorted(set(names))


def test_who_reads_the_config():
  readers = {f.relative_to(PACKAGE).parts[0] for f in PACKAGE.rglob('*.py')
             if 'ml_collections' in f.read_text()}
  assert readers == {'experiment'}


def test_importing_starts_no_backend_and_reads_no_data(tmp_path):
  """Nor does making a federation or a model; what is heavy comes late."""
  code = """
import sys
import jax
import numpy as np
from jax._src import xla_bridge
import fedjax_sim.experiment.run
from fedjax_sim import data, models
from fedjax_sim.data import federated
from fedjax_sim.experiment import plots

heavy = {'sklearn', 'tensorflow', 'tensorflow_datasets', 'pooch', 'requests',
         'tqdm', 'matplotlib'} & set(sys.modules)
assert not heavy, heavy
plots.curves([{'round': 1, 'test/accuracy': 0.5}], sys.argv[1])
assert 'matplotlib' in sys.modules and 'matplotlib.pyplot' not in sys.modules
models.mnist_cnn(10)
made = federated.federate({'y': np.arange(3)}, [np.array([2, 0])])
assert made.client(0)['y'].tolist() == [2, 0]
assert not xla_bridge._backends, xla_bridge._backends
jax.devices()
assert xla_bridge._backends  # Here they would be seen.
"""
  done = subprocess.run([sys.executable, '-c', code, tmp_path / 'c.png'],
                        capture_output=True, text=True)
  assert done.returncode == 0, done.stderr


def test_files_are_short():
  lengths = sorted(len(file.read_text().splitlines())
                   for file in PACKAGE.rglob('*.py'))
  assert lengths[-1] <= 400 and lengths[len(lengths) // 2] <= 130
