"""What is particular to flax nnx modules."""

import jax
import numpy as np
import pytest
from flax import nnx
from jax import numpy as jnp

from fedjax_sim import models

KEY = jax.random.key


class Net(nnx.Module):
  """As users write them: keyword-only rngs, kept as an attribute."""

  def __init__(self, *, rngs):
    self.rngs = rngs
    self.first = nnx.Dropout(0.5, rngs=rngs)
    self.second = nnx.Dropout(0.5, rngs=rngs)
    self.linear = nnx.Linear(8, 8, rngs=rngs)

  def __call__(self, x):
    return jnp.concatenate([self.first(x), self.second(x)], axis=1)


class WithNorm(nnx.Module):

  def __init__(self, rngs, norm=nnx.BatchNorm):
    self.norm = norm(1, momentum=0.0, rngs=rngs)
    self.blocks = nnx.List([nnx.Linear(1, 1, rngs=rngs) for _ in range(11)])

  def __call__(self, x):
    return self.norm(x)


class OwnNorm(nnx.BatchNorm):

  def __call__(self, x, **options):
    return 3 * super().__call__(x, **options)


@pytest.mark.parametrize(
    'build', [Net, lambda rngs: Net(rngs=rngs), lambda r: Net(rngs=r)])
def test_a_class_or_a_function_builds(build):
  model = models.from_nnx(build)
  variables = model.init(KEY(0), jnp.ones((2, 8)))
  assert set(variables.params) == {'linear'}
  assert variables.model_state == {}  # No keys, no counts.


def test_init_equals_the_module_s_own():
  seen = []

  def build(rngs):
    module = Net(rngs=rngs)
    seen.append(module.linear.kernel[...])
    return module

  variables = models.from_nnx(build).init(KEY(0), jnp.ones((2, 8)))
  np.testing.assert_array_equal(variables.params['linear']['kernel'], seen[-1])


def test_every_dropout_draws_its_own_from_the_call_s_key():
  model = models.from_nnx(Net)
  variables = model.init(KEY(0), jnp.ones((2, 8)))

  def draw(key):
    y, _ = model.run(variables, jnp.ones((2, 8)), key=key, train=True)
    return np.split(np.asarray(y), 2, axis=1)

  first, second = draw(KEY(1))
  assert np.any(first != second)
  np.testing.assert_array_equal(draw(KEY(1))[0], first)
  assert np.any(draw(KEY(2))[0] != first)
  assert np.any(draw(KEY(2))[1] != second)


@pytest.mark.parametrize('norm', [nnx.BatchNorm, OwnNorm])
def test_batchnorm_and_its_subclasses_leave_padding_out(norm):
  model = models.from_nnx(lambda rngs: WithNorm(rngs, norm))
  x = jnp.array([[1.0], [3.0], [1e6]])
  mask = jnp.array([True, True, False])
  variables = model.init(KEY(0), x)
  y, state = model.run(variables, x, train=True, mask=mask)
  np.testing.assert_allclose(state['norm']['mean'], [2.0])
  np.testing.assert_allclose(state['norm']['var'], [1.0])
  scale = 3 if norm is OwnNorm else 1
  np.testing.assert_allclose(y[:2, 0], [-scale, scale], rtol=1e-4)


def test_a_mask_of_the_user_s_own_and_that_of_the_rows_both_hold():
  class Masking(nnx.Module):

    def __init__(self, rngs):
      self.norm = nnx.BatchNorm(1, momentum=0.0, rngs=rngs)

    def __call__(self, x):
      return self.norm(x, mask=x < 100)

  x = jnp.array([[1, 1e5], [3, 8], [50, 50]])[..., None]
  model = models.from_nnx(Masking)
  _, state = model.run(model.init(KEY(0), x), x, train=True,
                         mask=jnp.array([True, True, False]))
  np.testing.assert_allclose(state['norm']['mean'], [4.0], rtol=1e-6)


def test_the_user_s_own_modules_are_left_alone():
  module = WithNorm(nnx.Rngs(0))
  models.from_nnx(WithNorm)
  assert type(module.norm) is nnx.BatchNorm
  x = jnp.array([[1.0], [3.0]])
  module.train()
  module(x)  # Knows no row mask, and needs none.
  np.testing.assert_allclose(module.norm.mean[...], [2.0])


def test_more_than_ten_layers_in_a_list_keep_their_places():
  model = models.from_nnx(WithNorm)
  variables = model.init(KEY(0), jnp.ones((2, 1)))
  assert set(variables.params['blocks']) == {str(i) for i in range(11)}

  class Chain(WithNorm):

    def __call__(self, x):
      return self.blocks[10](x)

  chain = models.from_nnx(Chain)
  tenth = variables.params['blocks']['10']
  y, _ = chain.run(variables, jnp.full((2, 1), 3.0))
  np.testing.assert_allclose(
      y[0], 3 * tenth['kernel'][0] + tenth['bias'], rtol=1e-6)


def test_vectorised_layers_and_split_streams_work():
  class Stack(nnx.Module):

    def __init__(self, rngs):
      @nnx.split_rngs(splits=3)
      @nnx.vmap
      def make(rngs):
        return nnx.Dropout(0.5, rngs=rngs)
      self.dropouts = make(rngs)

    def __call__(self, x):
      @nnx.vmap(in_axes=(0, None))
      def run(dropout, x):
        return dropout(x)
      return run(self.dropouts, x).mean(0)

  model = models.from_nnx(Stack)
  x = jnp.ones((4, 32))
  y, _ = model.run(model.init(KEY(0), x), x, key=KEY(1), train=True)
  # Means of three independent draws of 0 or 2.
  assert len(np.unique(np.round(y, 4))) == 4


def test_variables_that_appear_in_a_call_are_dropped():
  class Sower(WithNorm):

    def __call__(self, x):
      self.seen = nnx.Intermediate(x)
      return self.norm(x)

  model = models.from_nnx(Sower)
  variables = model.init(KEY(0), jnp.ones((2, 1)))
  _, state = model.run(variables, jnp.ones((2, 1)), train=True)
  assert set(state) == set(variables.model_state) == {'norm'}


def test_bare_arrays_are_state_and_integers_an_error():
  class Bare(nnx.Module):

    def __init__(self, rngs):
      self.shift = nnx.data(jnp.full((3,), 2.0))

    def __call__(self, x):
      return x + self.shift[None]

  model = models.from_nnx(Bare)
  variables = model.init(KEY(0), jnp.ones((2, 3)))
  y, state = model.run(variables, jnp.ones((2, 3)), train=True)
  np.testing.assert_array_equal(y, np.full((2, 3), 3.0))
  np.testing.assert_array_equal(state['shift'], [2, 2, 2])

  class Counter(nnx.Module):

    def __init__(self, rngs):
      self.steps = nnx.Variable(jnp.zeros((), jnp.int32))

    def __call__(self, x):
      return x

  with pytest.raises(ValueError, match=r"got int32 in .*'steps'"):
    models.from_nnx(Counter).init(KEY(0), jnp.ones((2, 3)))


def test_what_builds_no_module_is_an_error():
  with pytest.raises(ValueError, match='flax.nnx.Module, got int'):
    models.from_nnx(lambda rngs: 3)


def test_a_module_that_needs_more_arguments_is_an_error():
  class Two(nnx.Module):

    def __init__(self, rngs):
      del rngs

    def __call__(self, x, other):
      return x + other

  with pytest.raises(ValueError, match="Two.__call__ needs .*'other'"):
    models.from_nnx(Two)
