"""Restrictions of arrays, against plain training and against NumPy."""

import functools

import jax
import numpy as np
import optax
import pytest
from jax import numpy as jnp

from fedjax_sim import aggregation, algorithms, restrictions
from fedjax_sim.clients.local_training import local_training
from fedjax_sim.clients.restrictions import restriction
from fedjax_sim.core import random
from fedjax_sim.core.types import Variables
from fedjax_sim.simulation import traffic
from tests import toys

MODEL = toys.softmax_model()  # 'w' is [4, 3], 'b' [3].
DATA = toys.softmax_data((6, 9, 4))
PARAMS = {'w': jnp.arange(12.0).reshape(4, 3), 'b': jnp.ones(3)}
KEY = jax.random.key(7)


def trained(restrict, optimizer, **options):
  """A client's parameters before and after a round, and its message."""
  train = local_training(MODEL, optimizer, restrict=restrict, **options)

  @jax.jit
  def run(variables):
    data = toys.client_data(DATA, 1)
    local = train.run(variables, data, KEY, 0)
    return local.variables, train.message(local, variables, data)

  before = MODEL.init(jax.random.key(0), None)
  after, message = run(before)
  return before.params, after.params, message


def entered(restrict, seed=0, params=PARAMS):
  return restriction.enter(
      restrict, Variables(params, {}), jax.random.key(seed))


def test_a_mask_of_everything_is_plain_training():
  got, plain = (trained(restrict, optax.adam(0.1), epochs=2, batch_size=4)[1]
                for restrict in (restrictions.random_mask(1.0), None))
  jax.tree.map(np.testing.assert_array_equal, got, plain)


def of_full_rank(optimizer):
  return [trained(restrict, optimizer, epochs=2, batch_size=4)[1]
          for restrict in (restrictions.low_rank(4), None)]


def test_full_rank_is_plain_training_by_sgd_with_momentum():
  jax.tree.map(
      functools.partial(np.testing.assert_allclose, rtol=2e-5, atol=2e-6),
      *of_full_rank(optax.sgd(0.3, momentum=0.9, nesterov=True)))


def test_full_rank_is_another_training_by_adam():
  got, plain = of_full_rank(optax.adam(0.1))
  assert np.abs(got['w'] - plain['w']).max() > 1e-2


def factor(rank):
  """A, from the documented keys."""
  key = random.named(random.named(KEY, 'restrict'), 'params/w')
  return np.asarray(jnp.linalg.qr(jax.random.normal(key, (4, rank)))[0])


def test_low_rank_against_numpy():
  """B <- B - eta (A' grad(W + A B) + mu A' (A B)), steps of the whole data."""
  rate, mu, rank, steps = 0.5, 0.3, 2, 4
  before, after, message = trained(
      restrictions.low_rank(rank), optax.sgd(rate), proximal=mu, epochs=steps,
      batch_size=None)
  start, end = DATA.offsets[1], DATA.offsets[2]
  x = np.asarray(DATA.examples['x'][start:end], np.float64)
  y = DATA.examples['y'][start:end]
  a, b, bias = factor(rank), np.zeros((rank, 3)), np.zeros(3)
  w = np.asarray(before['w'], np.float64)
  for _ in range(steps):
    scores = x @ (w + a @ b) + bias
    p = np.exp(scores - scores.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    p[np.arange(len(y)), y] -= 1
    in_matrix = x.T @ p / len(y) + mu * a @ b
    b = b - rate * a.T @ in_matrix
    bias = bias - rate * (p.mean(0) + mu * bias)
  np.testing.assert_allclose(after['w'], w + a @ b, rtol=1e-5, atol=1e-6)
  np.testing.assert_allclose(after['b'], bias, rtol=1e-5, atol=1e-6)
  change = np.linalg.svd(message.update.params['w'], compute_uv=False)
  assert change[rank - 1] > 1e-3 > 100 * change[rank]


def test_the_mean_projection_is_rank_over_rows():
  """A A' has mean rank / rows: 1 of 4 here, and is a projection."""
  def projection(key):
    one = restriction.enter(
        restrictions.low_rank(1), Variables(PARAMS, {}), key)
    # What a plain step along the identity's columns becomes.
    gradient = {'w': jnp.eye(4)[:, :3], 'b': jnp.zeros(3)}
    return one.expand(one.pull(gradient))['w'] - PARAMS['w']

  found = jax.vmap(projection)(jax.random.split(jax.random.key(1), 4000))
  mean = np.mean(found, axis=0)
  # The deviation of an entry is about 0.26 / sqrt(4000).
  np.testing.assert_allclose(mean, np.eye(4)[:, :3] / 4, atol=0.02)


def test_a_mask_trains_its_entries_alone():
  """Weight decay and momentum too leave the others as they are."""
  optimizer = optax.adamw(0.1, weight_decay=0.5)
  before, after, _ = trained(
      restrictions.random_mask(0.5), optimizer, epochs=3, batch_size=None)
  changed = np.asarray(before['w'] != after['w'])
  assert changed.sum() == 6
  assert (after['b'] != before['b']).all()


def test_masks_are_uniform_and_sent_says_which():
  def sent(key):
    one = restriction.enter(
        restrictions.random_mask(0.25), Variables(PARAMS, {}), key)
    moved = jax.tree.map(lambda z: z + 1, one.start.params)
    change = one.expand(moved)['w'] != PARAMS['w']
    return one.travels.sent.params['w'], change
  sent, changed = jax.vmap(sent)(jax.random.split(jax.random.key(0), 3000))
  np.testing.assert_array_equal(sent, changed)
  assert (sent.sum((1, 2)) == 3).all()
  # 3 deviations of a frequency are 0.024.
  np.testing.assert_allclose(np.mean(sent, axis=0), 0.25, atol=0.03)


@pytest.mark.parametrize('restrict, numbers', [
    (restrictions.low_rank(2), 2 * 3 + 3),
    (restrictions.random_mask(0.25), 3 + 3),
], ids=['low_rank', 'random_mask'])
@pytest.mark.parametrize('uplink', [(), (aggregation.clip(1.0),)])
def test_what_is_sent_and_its_seed_are_counted(restrict, numbers, uplink):
  algorithm = algorithms.fedavg(
      MODEL, optax.sgd(0.3), restrict=restrict,
      aggregator=aggregation.aggregator(*uplink))
  variables = jax.eval_shape(
      MODEL.init, jax.random.key(0), DATA.examples['x'][:1])
  counted = traffic.per_client(algorithm, DATA.examples, variables)
  seed, weight, whole = 4, 4, 4 * 15
  assert counted.up == 4 * numbers + seed + weight
  assert counted.down == whole + 4


def test_errors_name_the_array():
  with pytest.raises(ValueError, match='at most 4, the rows of params/w as'):
    entered(restrictions.low_rank(5))
  entered(restrictions.low_rank(4))  # More than its columns is fine.
  kernel = {'kernel': jnp.zeros((5, 5, 2, 8))}
  with pytest.raises(ValueError, match='at most 50, the rows of params/kernel'):
    entered(restrictions.low_rank(51), params=kernel)
  with pytest.raises(ValueError, match='needs a model with matrices'):
    entered(restrictions.low_rank(1), params={'b': jnp.zeros(3)})
  for value in (0, -1, 2.0, True):
    with pytest.raises(ValueError, match='rank must'):
      restrictions.low_rank(value)
  for value in (0.0, 1.1, -0.5, True):
    with pytest.raises(ValueError, match='fraction must'):
      restrictions.random_mask(value)
    with pytest.raises(ValueError, match='fraction must'):
      restrictions.federated_dropout(value)
  with pytest.raises(ValueError, match='restrict must be a Restriction'):
    algorithms.fedavg(MODEL, optax.sgd(0.3), restrict=0.5)
  with pytest.raises(ValueError, match='is an argument of the algorithm'):
    local_training(MODEL, optax.sgd(0.3),
                   restrict=restrictions.federated_dropout(0.5))
