"""The table of docs/algorithms.md lists what each algorithm takes."""

import inspect
import re
from pathlib import Path

import pytest

from fedjax_sim import algorithms
from fedjax_sim.clients.local_training import TrainingOptions, local_training

PAGE = Path(__file__).parents[2] / 'docs' / 'algorithms.md'
# What the text above the table lists.
SHARED = {'model', 'client_optimizer', 'server_optimizer', 'aggregator',
          'training', *TrainingOptions.__annotations__}
LISTED = {
    name: own.strip('`')
    for names, own in re.findall(
        r'^\| (`[\w`, ]+`) \|[^|]*\| ([^|]*) \|[^|]*\|[^|]*\|$',
        PAGE.read_text(), re.M)
    for name in re.findall(r'`(\w+)`', names)}


def own_arguments(builder):
  """As Python writes them; a function that is a default as '…'."""
  shown = []
  for name, parameter in inspect.signature(builder).parameters.items():
    default = '…' if callable(parameter.default) else repr(parameter.default)
    required = parameter.default is parameter.empty
    shown += [] if name in SHARED else [
        name if required else f'{name}={default}']
  return ', '.join(shown) or '-'


def test_the_shared_arguments_are_listed():
  parameters = inspect.signature(local_training).parameters.values()
  want = [f'{p.name}={p.default!r}' for p in parameters
          if p.kind == p.KEYWORD_ONLY]
  assert re.findall(r'^\| `(\w+=[^`]*)` \|', PAGE.read_text(), re.M) == want


def test_every_algorithm_is_listed():
  builders = {name for name in algorithms.__all__
              if inspect.isfunction(getattr(algorithms, name))}
  assert builders - LISTED.keys() == {'from_client_update'}


@pytest.mark.parametrize('name', LISTED)
def test_its_own_arguments_are_listed(name):
  assert LISTED[name] == own_arguments(getattr(algorithms, name))
