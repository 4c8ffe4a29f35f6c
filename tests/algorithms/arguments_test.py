"""Keywords that a builder does not have."""

import inspect

import pytest

from fedjax_sim import algorithms

BUILDERS = sorted(name for name in algorithms.__all__ if 'training' in (
    inspect.signature(getattr(algorithms, name)).parameters))


@pytest.mark.parametrize('name', BUILDERS)
def test_an_unknown_keyword_is_named_with_its_builder_and_a_near_one(name):
  with pytest.raises(TypeError, match=(
      f"^{name} has no argument 'epoch'. Did you mean 'epochs'")):
    getattr(algorithms, name)(None, epoch=3)


def test_most_builders_are_listed():
  assert len(BUILDERS) > 15


@pytest.mark.parametrize('name, given, meant', [
    ('scaffold', 'client_optimizer', 'client_lr'),
    ('fedavg', 'client_lr', 'client_optimizer')])
def test_a_rate_for_an_optimizer_is_pointed_to_the_other(name, given, meant):
  with pytest.raises(TypeError, match=f"{given}'. Did you mean '{meant}'"):
    getattr(algorithms, name)(None, **{given: 0.1})
