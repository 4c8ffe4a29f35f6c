"""Federated Dropout against NumPy, and where it changes nothing."""

import re

import jax
import numpy as np
import optax
import pytest
from jax import numpy as jnp

from fedjax_sim import aggregation, algorithms, models, restrictions
from fedjax_sim.core import random
from fedjax_sim.core.types import Keys
from fedjax_sim.data.federated import federate
from fedjax_sim.models import dense
from tests import toys
from tests.aggregation.parts import rounding

RATE, HIDDEN = 0.5, 5
SIZES = np.array([4, 7])
_RNG = np.random.default_rng(0)
X = _RNG.normal(size=(SIZES.sum(), 4)).astype(np.float32)
Y = _RNG.integers(0, 3, SIZES.sum()).astype(np.int32)
DATA = federate({'x': X, 'y': Y}, toys.partition_of(SIZES))
MODEL = dense._dense((HIDDEN,), 3, models.cross_entropy,
                     jax.nn.initializers.glorot_uniform())


def kept(client, count):
  """The units of a client in round 0, from the documented keys."""
  key = random.round_key(jax.random.key(0), 0)
  key = random.named(random.client_key(key, client, 0), 'receive')
  seed = jax.random.bits(random.named(key, 'submodel'), (), jnp.uint32)
  key = random.named(jax.random.key(seed), 'dense_0')
  return np.sort(random.random_order(key, HIDDEN, HIDDEN)[:count])


def gradients(w, x, y):
  """Of the mean cross-entropy of relu(x w0 + b0) w1 + b1."""
  hidden = x @ w['w0'] + w['b0']
  active = np.maximum(hidden, 0)
  scores = active @ w['w1'] + w['b1']
  p = np.exp(scores - scores.max(1, keepdims=True))
  p /= p.sum(1, keepdims=True)
  p[np.arange(len(y)), y] -= 1
  p /= len(y)
  back = (p @ w['w1'].T) * (hidden > 0)
  return {'w0': x.T @ back, 'b0': back.sum(0), 'w1': active.T @ p,
          'b1': p.sum(0)}


def named(params):
  return {f'{short}{i}': np.asarray(params[f'dense_{i}'][long], np.float64)
          for i in (0, 1) for short, long in (('w', 'kernel'), ('b', 'bias'))}


def reference(w, count, steps, received):
  """A round in which each client trains `count` units, and the untrained."""
  total = {name: np.zeros_like(x) for name, x in w.items()}
  weight = {name: np.zeros_like(x) for name, x in w.items()}
  for client, rows in enumerate(toys.partition_of(SIZES)):
    units = kept(client, count)
    place = {'w0': np.s_[:, units], 'b0': units, 'w1': units, 'b1': np.s_[:]}
    start = {name: received(w[name][at]) for name, at in place.items()}
    local = dict(start)
    for _ in range(steps):
      grads = gradients(local, X[rows].astype(np.float64), Y[rows])
      local = {name: x - RATE * grads[name] for name, x in local.items()}
    for name, at in place.items():
      total[name][at] += len(rows) * (local[name] - start[name])
      weight[name][at] += len(rows)
  return ({name: w[name] + total[name] / np.maximum(weight[name], 1)
           for name in w}, weight['b0'] == 0)


@pytest.mark.parametrize('down', [
    pytest.param(False, marks=pytest.mark.slow), True])
def test_a_round_against_numpy(down):
  """2 of 5 units for each client; with a downlink the submodel is rounded."""
  parts = [aggregation.downlink(rounding(8.0))] if down else []
  algorithm = algorithms.fedavg(
      MODEL, optax.sgd(RATE), epochs=3, batch_size=None,
      restrict=restrictions.federated_dropout(0.4, per_client=True),
      aggregator=aggregation.aggregator(*parts))
  state = toys.run_cohorts(MODEL, algorithm, DATA, [[0, 1]])
  before = named(MODEL.init(
      random.named(jax.random.key(0), 'model'), X[:1]).params)
  want, untrained = reference(
      before, 2, 3, lambda x: np.round(x * 8) / 8 if down else x)
  got = named(state.server.variables.params)
  for name, x in want.items():
    np.testing.assert_allclose(got[name], x, rtol=1e-5, atol=1e-6)
  assert untrained.any() and not untrained.all()
  for name, at in (('w0', np.s_[:, untrained]), ('w1', untrained)):
    np.testing.assert_array_equal(got[name][at], before[name][at])


def message_of(restrict):
  """What a client sends in a round of its own."""
  algorithm = algorithms.fedavg(
      MODEL, optax.adam(0.1), batch_size=2, restrict=restrict)

  @jax.jit
  def run(variables, key):
    sent = algorithm.broadcast(algorithm.init(variables, key, 2))
    if algorithm.receive is not None:
      sent = algorithm.receive(sent, None, Keys(
          key, jax.random.fold_in(key, 1)))
    return algorithm.client(
        sent, (), toys.client_data(DATA, 1), key).message

  key = jax.random.key(3)
  return run(MODEL.init(key, X[:1]), key)


def test_all_units_are_the_whole_model():
  got = message_of(restrictions.federated_dropout(1.0))
  plain = message_of(None)
  jax.tree.map(np.testing.assert_array_equal, got.update, plain.update)
  assert all((x == plain.weight).all() for x in jax.tree.leaves(got.weight))


def test_clients_compute_with_small_matrices():
  """No product of local training has the whole hidden layer along an axis."""
  algorithm = algorithms.fedavg(
      MODEL, optax.sgd(0.1), restrict=restrictions.federated_dropout(0.4))
  def run(variables, key):
    sent = algorithm.broadcast(algorithm.init(variables, key, 2))
    sent = algorithm.receive(sent, None, Keys(key, key))
    return algorithm.client(sent, (), toys.client_data(DATA, 1), key)
  key = jax.random.key(0)
  text = str(jax.make_jaxpr(run)(MODEL.init(key, X[:1]), key))
  shapes = re.findall(r'f32\[([\d,]*)\] = dot_general', text)
  assert len(shapes) > 3 and not any(
      str(HIDDEN) in shape.split(',') for shape in shapes), shapes


def test_a_cohort_shares_its_units_unless_each_client_has_its_own():
  def seeds(per_client, of_round):
    algorithm = algorithms.fedavg(
        MODEL, optax.sgd(0.1), restrict=restrictions.federated_dropout(
            0.4, per_client))
    return {int(algorithm.receive((), None, Keys(
        jax.random.key(of_round), jax.random.key(client))).seed)
            for client in range(3)}
  assert len(seeds(False, 0)) == 1 and len(seeds(True, 0)) == 3
  assert seeds(False, 0) != seeds(False, 1)


def test_errors():
  dropout = restrictions.federated_dropout(0.5)
  build = lambda model=MODEL, **kw: algorithms.fedavg(
      model, optax.sgd(0.1), restrict=dropout, **kw)
  for model in (toys.softmax_model(), models.logistic_regression()):
    with pytest.raises(ValueError, match='which its hidden units are'):
      build(model)
  for reducer in (aggregation.median(), aggregation.fixed_mean(3.0)):
    with pytest.raises(ValueError, match='reduce must be weighted_mean'):
      build(aggregator=aggregation.aggregator(reduce=reducer))
  algorithm = build(aggregator=aggregation.aggregator(aggregation.rotate()))
  with pytest.raises(ValueError, match='rotate must be given all values'):
    toys.run_cohorts(MODEL, algorithm, DATA, [[0, 1]])
  with pytest.raises(ValueError, match='uplink must not encode .* .quantize.'):
    algorithms.fedavg(
        MODEL, optax.sgd(0.1), restrict=restrictions.low_rank(2),
        aggregator=aggregation.aggregator(aggregation.quantize(2)))
