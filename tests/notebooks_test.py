"""The notebooks run from top to bottom, without network, and hold no outputs.

Run in a kernel of their own, on the small budget: digits, a few rounds.
"""

import os
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parent.parent
QUICKSTART = ROOT / 'notebooks' / 'quickstart.ipynb'


def sources(kind):
  notebook = nbformat.read(QUICKSTART, as_version=4)
  return [cell.source for cell in notebook.cells if cell.cell_type == kind]


@pytest.fixture(scope='module')
def cells(tmp_path_factory):
  """The executed cells, by id."""
  folder = tmp_path_factory.mktemp('notebook')
  notebook = nbformat.read(QUICKSTART, as_version=4)
  with pytest.MonkeyPatch.context() as patch:
    patch.setenv('FEDJAX_SIM_NOTEBOOK_BUDGET', 'small')
    for name in ('IPYTHONDIR', 'JUPYTER_CONFIG_DIR', 'JUPYTER_DATA_DIR',
                 'JUPYTER_RUNTIME_DIR'):
      patch.setenv(name, str(folder / name))
    patch.setenv('PYTHONPATH', os.pathsep.join(
        filter(None, [str(ROOT), os.environ.get('PYTHONPATH')])))
    # The kernel runs where nothing of the clone is at hand.
    NotebookClient(
        notebook, timeout=120, kernel_name='python3',
        resources={'metadata': {'path': str(folder)}}).execute()
  return {cell.id: cell for cell in notebook.cells}


def printed(cell):
  return ''.join(output.text for output in cell.get('outputs', ())
                 if output.output_type == 'stream' and output.name == 'stdout')


def images(cell):
  return [output for output in cell.outputs
          if 'image/png' in output.get('data', {})]


def test_it_is_committed_without_outputs_in_the_format_of_nbformat():
  notebook = nbformat.read(QUICKSTART, as_version=4)
  nbformat.validate(notebook)
  for cell in notebook.cells:
    assert not cell.get('outputs') and cell.get('execution_count') is None
  assert nbformat.writes(notebook) + '\n' == QUICKSTART.read_text()


def test_lines_fit():
  for source in sources('code'):
    assert max(map(len, source.splitlines())) <= 80


@pytest.mark.slow
def test_figures_are_shown(cells):
  for name in ('partition', 'live_curve', 'figure_1'):
    assert len(images(cells[name])) == 1, name


@pytest.mark.slow
def test_what_it_trains_learns(cells):
  # Ten labels: chance is 10%.
  accuracy = {}
  for name in ('live_curve', 'own_model'):
    for line in printed(cells[name]).splitlines():
      label, _, value = line.rpartition(': ')
      accuracy[label] = float(value.removesuffix('%'))
  assert accuracy['FedAvg'] > accuracy['FedSGD'] > 15
  assert accuracy['own model'] > 30
  assert 'digits' in printed(cells['data'])


@pytest.mark.slow
def test_averaging_from_shared_weights_is_better(cells):
  losses = dict(
      line.split(': ') for line in printed(cells['figure_1']).splitlines())
  assert (float(losses['average, the same initialization'])
          < float(losses['average, different initialization']))
