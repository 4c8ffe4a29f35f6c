import gc
import weakref

import jax
import numpy as np
import pytest

from fedjax_sim.core import reuse
from fedjax_sim.core.types import Model


@pytest.fixture
def built():
  """A function that tells how often it was called."""
  calls = []
  @reuse.reused(size=2)
  def build(*args, **kwargs):
    calls.append((args, kwargs))
    return len(calls)
  return build


def loss(x):
  return x


@pytest.mark.parametrize('make', [
    lambda: (loss, 1, 'a', None), lambda: ({'f': loss, 'n': [1.5, True]},),
    lambda: (jax.ShapeDtypeStruct((2, 3), np.float32),),
    lambda: (Model(loss, loss, loss, loss),),
])
def test_equal_parts_are_the_same(built, make):
  assert [built(make(), of=make()) for _ in range(3)] == [1, 1, 1]


@pytest.mark.parametrize('first, second', [
    (1, 1.0), (1, True), (loss, lambda x: x), ([loss], (loss,)),
    (jax.ShapeDtypeStruct((2,), np.float32),
     jax.ShapeDtypeStruct((2,), np.int32)),
    (np.zeros(3), np.zeros(3)),  # Whose content isn't looked at.
])
def test_other_parts_are_not(built, first, second):
  assert [built(first), built(second), built(first)] == [1, 2, 1]


def test_other_settings_are_not(built):
  with jax.default_matmul_precision('highest'):
    assert built(loss) == 1
  assert built(loss) == 2


def test_what_was_used_longest_ago_goes_first(built):
  assert [built(1), built(2), built(1), built(3)] == [1, 2, 1, 3]
  assert [built(1), built(2)] == [1, 4]


def test_parts_live_as_long_as_what_is_built_and_no_longer():
  built = reuse.reused(size=2)(lambda part: 0)
  part = lambda x: x
  held = weakref.ref(part)
  built(part)
  del part
  gc.collect()
  assert held() is not None  # Another object must not get its id.
  reuse.forget()
  gc.collect()
  assert held() is None
