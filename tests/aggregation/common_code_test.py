"""What every code of values promises, whatever it is."""

import jax
import numpy as np
import pytest
from jax import numpy as jnp

from fedjax_sim import aggregation
from fedjax_sim.core import costs
from tests.aggregation import sending

CODES = {
    'rotate': aggregation.rotate,
    'subsample': lambda: aggregation.subsample(0.5),
    'quantize': lambda: aggregation.quantize(3),
    'quantize entropy': lambda: aggregation.quantize(3, coder='entropy'),
    'qsgd': lambda: aggregation.qsgd(3),
    'terngrad': aggregation.terngrad,
    'sign_sgd': aggregation.sign_sgd,
    'drive': aggregation.drive,
    'eden': lambda: aggregation.eden(2),
    'cast': aggregation.cast,
    'cast stochastic': lambda: aggregation.cast(stochastic=True),
}
X = np.random.default_rng(0).normal(size=37)


WRONG = [0.0, np.nan, np.inf, -np.inf]
OTHERS = {'b': jnp.ones(4), 'half': jnp.bfloat16(X), 'none': jnp.zeros((0, 3)),
          'one': jnp.ones(1), 'whole': jnp.arange(5)}


@pytest.mark.parametrize('name', CODES)
def test_zeros_what_is_not_finite_and_other_leaves(name):
  """The first client's leaf `a` is zero, those of others are not finite."""
  first = np.tile(np.float32(X), (len(WRONG), 1))
  first[:, 7], first[0] = WRONG, 0
  keys = jax.random.split(sending.KEYS.client, len(WRONG))
  sent, got = jax.vmap(lambda a, key: sending.send_and_receive(
      CODES[name](), {'a': a, **OTHERS}, sending.KEYS._replace(client=key))
                       )(first, keys)
  # Of a zero one bit says plus or minus.
  np.testing.assert_array_equal(np.abs(got['a'][0]), name == 'sign_sgd')
  assert not np.isfinite(sent.update['a'][1:]).all(1).any()
  assert np.isfinite(got['b']).all()
  np.testing.assert_array_equal(got['whole'][0], OTHERS['whole'])
  assert got['none'].size == 0
  assert np.abs(np.float32(got['half'])).max() < 4 * np.linalg.norm(X)
  bits = jax.tree.map(lambda x: float(x[0]), sent.cost)
  assert bits.values['whole'] == 5 * 32
  assert bits.values['none'] == bits.extra['none'] == bits.extra['whole'] == 0
  np.testing.assert_array_equal(sent.weight, 2)


@pytest.mark.parametrize('name', CODES)
def test_they_go_down_too_and_into_a_buffer_which_counts_nothing(name):
  update = {'a': jnp.ones((5, 3)), 'b': jnp.ones(4), 'round': jnp.int32(3)}

  def both(update, key):
    part = CODES[name]()
    received, _, bits = aggregation.downlink(part).broadcast(update, (), key)
    sent = sending.send(part, update, cost=None)
    return received, bits, sent

  received, _, sent = jax.eval_shape(both, update, jax.random.key(0))
  assert jax.tree.map(lambda x: (x.shape, x.dtype), received) == jax.tree.map(
      lambda x: (x.shape, x.dtype), update)
  assert sent.cost is None


@pytest.mark.parametrize('name', [
    'quantize', 'quantize entropy', 'qsgd', 'terngrad', 'cast'])
def test_of_values_left_out_nothing_is_sent(name):
  """As if the others were the vector, whose draws are others."""
  mask = np.arange(37) % 3 == 0
  update = {'a': jnp.float32(np.where(mask, X, 0))}
  part = CODES[name]()
  sent = sending.send(part, update, sent={'a': jnp.asarray(mask)})
  np.testing.assert_array_equal(np.asarray(sent.update['a'])[~mask], 0)
  alone = sending.send(part, {'a': jnp.float32(X[mask])})
  if name in ('quantize', 'terngrad', 'cast'):
    assert costs.total(sent.cost) == costs.total(alone.cost)
  else:  # Depends on what was drawn.
    assert costs.total(sent.cost) < costs.total(alone.cost) + 48


@pytest.mark.parametrize('make', [
    aggregation.drive, lambda: aggregation.eden(1)])
def test_rotations_need_all_values(make):
  with pytest.raises(ValueError, match='must be given all values'):
    sending.send(make(), {'a': jnp.ones(4)}, sent={'a': jnp.ones(4, bool)})


@pytest.mark.parametrize('make, message', [
    (lambda: aggregation.qsgd(0), 'levels must be .* >= 1, got 0'),
    (lambda: aggregation.qsgd(2 ** 15), 'levels must be .* <= 32767'),
    (lambda: aggregation.qsgd(4, coder='gamma'), 'coder must be one of elias'),
    (lambda: aggregation.qsgd(4, over='all'), 'over must be one of leaf'),
    (lambda: aggregation.quantize(4, coder='elias'), 'coder must be one of en'),
    (lambda: aggregation.terngrad(0.0), 'clip must be positive'),
    (lambda: aggregation.terngrad(True), 'clip must be positive'),
    (lambda: aggregation.sign_sgd(scaled=1), 'scaled must be True or False'),
    (lambda: aggregation.drive(unbiased=None), 'unbiased must be True or'),
    (lambda: aggregation.eden(0), 'bits must be .* >= 1, got 0'),
    (lambda: aggregation.eden(17), 'bits must be .* <= 16, got 17'),
    (lambda: aggregation.eden(0.5), 'bits must be a whole number'),
    (lambda: aggregation.cast('float8'), 'dtype must be one of bfloat16'),
    (lambda: aggregation.cast('float16', stochastic=True), 'stochastic must')])
def test_wrong_arguments(make, message):
  with pytest.raises(ValueError, match=message):
    make()
