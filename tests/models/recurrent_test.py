"""The LSTM layer against NumPy in float64, its gradients by differences."""

import functools

import jax
import numpy as np
import pytest
from jax import lax
from jax import numpy as jnp

from fedjax_sim import models
from tests.models import numpy_lstm

BATCH, FEATURES, WIDTH = 2, 3, 4


def arrays(seed=0, steps=5, lanes=None):
  """x, input_kernel, recurrent_kernel, bias, peepholes; float64."""
  rng = np.random.default_rng(seed)
  lead = () if lanes is None else (lanes,)
  shapes = [(BATCH, steps, FEATURES), (FEATURES, 4 * WIDTH),
            (WIDTH, 4 * WIDTH), (4 * WIDTH,), (3, WIDTH)]
  return [rng.normal(size=lead + shape) for shape in shapes]


def cotangent(steps=5):
  return np.random.default_rng(9).normal(size=(BATCH, steps, WIDTH))


@functools.partial(jax.jit, static_argnames='forget_bias')
def value_and_gradients(args, dh, forget_bias=1.0):
  layer = functools.partial(models.lstm, forget_bias=forget_bias)
  y, pull = jax.vjp(layer, *args)
  return y, pull(dh)


def differences(function, args, place, step=1e-5):
  """The gradient in one argument by central differences."""
  gradient = np.zeros(args[place].shape)
  for index in np.ndindex(gradient.shape):
    ends = []
    for sign in (1, -1):
      moved = [x.copy() for x in args]
      moved[place][index] += sign * step
      ends.append(function(*moved))
    gradient[index] = (ends[0] - ends[1]) / (2 * step)
  return gradient


@pytest.mark.parametrize('peepholes', [True, False])
@pytest.mark.parametrize('steps, forget_bias', [(5, 1.0), (1, 0.0)])
def test_values_and_gradients_are_those_of_numpy(
    peepholes, steps, forget_bias):
  args = arrays(steps=steps)
  given = len(args) if peepholes else len(args) - 1
  if not peepholes:
    args[-1][:] = 0
  dh = cotangent(steps)
  reference = functools.partial(numpy_lstm.lstm, forget_bias=forget_bias)
  y, gradients = value_and_gradients(
      [jnp.float32(x) for x in args[:given]], jnp.float32(dh),
      forget_bias=forget_bias)
  assert y.dtype == jnp.float32
  np.testing.assert_allclose(y, reference(*args), rtol=1e-5, atol=1e-6)
  assert len(gradients) == given
  for place, gradient in enumerate(gradients):
    expected = differences(
        lambda *moved: np.sum(dh * reference(*moved)), args, place)
    np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-5)


def test_in_a_loop_over_clients_with_their_own_weights():
  # Two steps of descent, the weights in the carry, as in local SGD.
  x, *weights = [jnp.float32(a) for a in arrays(lanes=3)]

  def descend(x, weights):
    def step(_, weights):
      _, (_, *gradients) = value_and_gradients(
          (x, *weights), jnp.float32(cotangent()))
      return [w - 0.1 * g for w, g in zip(weights, gradients, strict=True)]
    return lax.fori_loop(0, 2, step, weights)

  together = jax.jit(jax.vmap(descend))(x, weights)
  alone = jax.jit(descend)
  for lane in range(3):
    expected = alone(x[lane], [w[lane] for w in weights])
    for a, b, start in zip(together, expected, weights, strict=True):
      np.testing.assert_allclose(a[lane], b, rtol=1e-5, atol=1e-6)
      assert np.all(np.any(a[lane] != start[lane]))


def test_the_loops_over_time_hold_one_product_each():
  args = [jnp.float32(a) for a in arrays()]
  jaxpr = jax.make_jaxpr(value_and_gradients)(args, jnp.float32(cotangent()))

  def walk(jaxpr):
    for equation in jaxpr.eqns:
      yield equation
      for value in equation.params.values():
        if hasattr(value, 'jaxpr') or hasattr(value, 'eqns'):
          yield from walk(getattr(value, 'jaxpr', value))

  scans = [e for e in walk(jaxpr.jaxpr) if e.primitive.name == 'scan']
  assert len(scans) == 2
  for scan in scans:
    inside = [e.primitive.name for e in walk(scan.params['jaxpr'].jaxpr)]
    assert inside.count('dot_general') == 1


def test_a_constant_forget_bias_is_the_same_as_one_in_the_bias():
  x, input_kernel, recurrent_kernel, bias, peepholes = (
      jnp.float32(a) for a in arrays())
  y = models.lstm(x, input_kernel, recurrent_kernel, bias, peepholes)
  moved = bias.at[WIDTH:2 * WIDTH].add(1.0)
  same = models.lstm(x, input_kernel, recurrent_kernel, moved, peepholes,
                     forget_bias=0.0)
  np.testing.assert_array_equal(y, same)


def test_later_inputs_change_nothing_before_them():
  x, *weights = [jnp.float32(a) for a in arrays()]
  changed = x.at[:, 3:].set(1e6)
  dh = jnp.float32(cotangent()).at[:, 3:].set(0)
  one, other = (value_and_gradients((v, *weights), dh) for v in (x, changed))
  np.testing.assert_array_equal(one[0][:, :3], other[0][:, :3])
  assert np.any(one[0][:, 3:] != other[0][:, 3:])
  for a, b in zip(one[1], other[1], strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_saturated_gates_give_finite_gradients():
  args = [jnp.float32(1e4 * a) for a in arrays()]
  y, gradients = value_and_gradients(args, jnp.float32(cotangent()))
  assert np.all(np.isfinite(y))
  assert all(np.all(np.isfinite(g)) for g in gradients)


@pytest.mark.parametrize('place, shape, message', [
    (0, (2, 5, 2), r'x must be of shape \[2, 5, 3\], got \[2, 5, 2\]'),
    (0, (5, 3), r'x must be of shape \[5, 3, 3\], got \[5, 3\]'),
    (1, (3, 15), r'input_kernel .*\[3, 16\], got \[3, 15\]'),
    (2, (4, 15), r'recurrent_kernel .*\[4, 16\], got \[4, 15\]'),
    (3, (4,), r'bias .*\[16\], got \[4\]'),
    (4, (2, 4), r'peepholes .*\[3, 4\], got \[2, 4\]'),
])
def test_misfitting_shapes_are_named(place, shape, message):
  args = [jnp.float32(a) for a in arrays()]
  args[place] = jnp.zeros(shape)
  with pytest.raises(ValueError, match=message):
    models.lstm(*args)
