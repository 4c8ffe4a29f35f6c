"""Every config is one that a run takes, and says how it is run."""

import ast
from pathlib import Path

import pytest

from fedjax_sim.data.sets.load import Dataset
from fedjax_sim.experiment import build_algorithm, build_run, check_config

CONFIGS = sorted(
    path for path in (Path(__file__).parent.parent / 'configs').glob('*.py')
    if path.name != '__init__.py')


@pytest.fixture(params=CONFIGS, ids=lambda path: path.stem)
def path(request):
  return request.param


def test_fields_are_valid_together(path):
  space = {}
  exec(compile(path.read_text(), path, 'exec'), space)
  config = space['get_config']()
  check_config.validate(config)
  dataset = Dataset('none', {}, {}, 10)
  build_algorithm.make_algorithm(
      config, build_run.make_model(config, dataset), num_clients=100)


def test_the_command_is_its_own(path):
  text = ast.get_docstring(ast.parse(path.read_text()))
  assert f'\nCommand: python run.py --config=configs/{path.name}' in text


def test_a_page_names_it(path):
  page = path.parents[1] / 'docs' / 'configs.md'
  assert f'`{path.name}`' in page.read_text()
