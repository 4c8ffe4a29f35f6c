"""Every config is one that a run takes, and says how it is run."""

import ast
from pathlib import Path

import pytest

from fedjax_sim import models
from fedjax_sim.experiment import build as build_lib
from fedjax_sim.experiment import build_algorithm

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
  build_lib.validate(config)
  model = models.build(config.model, 10, config.loss, config.pixels)
  build_algorithm.make_algorithm(config, model)


def test_the_command_is_its_own(path):
  text = ast.get_docstring(ast.parse(path.read_text()))
  assert f'\nCommand: python run.py --config=configs/{path.name}' in text


def test_the_readme_names_it(path):
  assert f'`{path.name}`' in (path.parents[1] / 'README.md').read_text()
