"""The types carry published aggregations with no special case in the engine.

Each sketch is a page of its own algorithm at its smallest, run through the
real engine in several blocks, and held by something that can fail.
"""

import jax
import numpy as np
import optax
from jax import numpy as jnp

from fedjax_sim import aggregation
from fedjax_sim.algorithms.fedavg import fedavg
from fedjax_sim.core import trees
from fedjax_sim.core.types import Aggregate, Reducer
from fedjax_sim.simulation.simulate import simulate
from tests import toys

MODEL = toys.quadratic_model()
SGD = optax.sgd(0.1)


def points(centres, sizes, noise=0.0, seed=0):
  rng = np.random.default_rng(seed)
  return toys.points_data([
      np.asarray(c) + noise * rng.normal(size=(n, 2))
      for c, n in zip(centres, sizes, strict=True)])


def run(algorithm, data, rounds=60, model=MODEL, lanes=2, **kwargs):
  return simulate(model, algorithm, data, rounds=rounds, lanes=lanes,
                  client_fraction=1.0, **kwargs)


def weight_of(result):
  return np.asarray(result.variables.params['w'])


def adaptive_clipping(quantile=0.5, lr=0.3):
  """Andrew et al. (2021): the norm follows a quantile of the clients'."""
  def client(message, norm, state, key):
    length = optax.tree.norm(message.update)
    factor = jnp.minimum(1.0, norm / jnp.maximum(length, 1e-12))
    aux = {**message.aux, 'below': (length <= norm).astype(jnp.float32)}
    update = jax.tree.map(lambda u: factor * u, message.update)
    return message._replace(update=update, aux=aux), state

  def server(norm, aggregate: Aggregate, key):
    below = aggregate.aux['below'] / aggregate.count
    return norm * jnp.exp(-lr * (below - quantile))

  return aggregation.identity()._replace(
      init=lambda message: jnp.float32(1.0), client=client, server=server)


def test_adaptive_clipping_finds_the_quantile():
  # The model stays at 0 (server rate 0), so norms are 0.1 * distance.
  lengths = np.array([0.1, 0.2, 0.3, 0.7, 0.8])
  data = points([(10 * d, 0) for d in lengths], (1,) * 5)
  chain = aggregation.chain(
      adaptive_clipping(), reduce=aggregation.weighted_mean())
  result = run(fedavg(MODEL, SGD, optax.sgd(0.0), aggregator=chain), data,
               rounds=80)
  (norm,) = result.state.aggregator
  assert 0.25 < norm < 0.35


def median():
  """Yin et al. (2018): coordinate-wise, from a buffer of all messages."""
  def init(message, num_slots):
    rows = jax.tree.map(
        lambda x: jnp.full((num_slots, *x.shape), jnp.nan), message.update)
    return rows, jnp.int32(0), jnp.zeros(message.weight.shape)

  def accumulate(accumulator, messages):
    rows, count, weight = accumulator
    here = count + jnp.cumsum(messages.present) - 1
    slots = len(jax.tree.leaves(rows)[0])
    target = jnp.where(messages.present, here, slots)
    rows = jax.tree.map(
        lambda r, u: r.at[target].set(u, mode='drop'), rows, messages.update)
    return (rows, count + messages.present.sum(),
            weight + jnp.where(messages.present, messages.weight, 0).sum())

  def merge(a, b):
    (rows, count, weight), (more, added, extra) = a, b
    keep = jnp.arange(len(jax.tree.leaves(rows)[0])) < count
    rows = jax.tree.map(
        lambda x, y: jnp.where(keep[:, None], x, jnp.roll(y, count, axis=0)),
        rows, more)
    return rows, count + added, weight + extra

  def finalize(accumulator, key):
    rows, count, weight = accumulator
    return Aggregate(jax.tree.map(lambda r: jnp.nanmedian(r, axis=0), rows),
                     weight, count, {})

  return Reducer(init, accumulate, merge, finalize)


def test_median_ignores_an_outlier():
  data = points([(0, 0), (1, 2), (2, 1), (9, 9), (1e6, -1e6)], (1,) * 5)
  algorithm = fedavg(MODEL, optax.sgd(1.0),
                     aggregator=aggregation.chain(reduce=median()))
  np.testing.assert_allclose(
      weight_of(run(algorithm, data, rounds=1)), [2, 1], rtol=1e-6)


SCALE = 2.0 ** 16


def weigh_and_quantize():
  """weight * update in fixed point; the weight goes along as one more sum."""
  def client(message, state, own, key):
    update = jax.tree.map(
        lambda u: jnp.round(SCALE * message.weight * u).astype(jnp.int32),
        message.update)
    return message._replace(update=update), own
  return aggregation.identity()._replace(client=client)


def pairwise_mask(num_clients):
  """Bonawitz et al. (2017), one round: masks cancel in the sum mod 2^32.

  The clients' numbers stand in for their key exchange: client k adds the mask
  it shares with every other client, the lower number with a plus.
  """
  def mask_of(low, high, like):
    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(7), low), high)
    return jax.tree.map(
        lambda u: jax.random.bits(key, u.shape).view(jnp.int32), like)

  def client(message, state, own, key):
    me, update = message.client, message.update
    for other in range(num_clients):
      low, high = jnp.minimum(me, other), jnp.maximum(me, other)
      sign = jnp.sign(other - me)
      update = jax.tree.map(lambda u, m, s=sign: u + s * m, update,
                            mask_of(low, high, update))
    return message._replace(update=update), own
  return aggregation.identity()._replace(client=client)


def integer_sum():
  """Sums integers modulo 2^32, then fixed point to float and the mean."""
  mean = aggregation.weighted_mean()

  def accumulate(accumulator, messages):
    total, tallied = accumulator
    ones = messages._replace(
        update=(), weight=messages.weight)
    added = jax.tree.map(
        lambda u: jnp.sum(trees.where(messages.present, u, 0 * u), 0,
                          dtype=jnp.int32), messages.update)
    return (jax.tree.map(jnp.add, total, added),
            mean.accumulate(((), tallied), ones)[1])

  def finalize(accumulator, key):
    total, tallied = accumulator
    scale = SCALE * tallied.weight
    return Aggregate(
        jax.tree.map(lambda t: t.astype(jnp.float32) / scale, total), *tallied)

  return Reducer(mean.init, accumulate, trees.add, finalize)


def test_masked_integer_sum_is_the_weighted_mean():
  data = points([(0, 0), (1, 2), (-2, 1)], (1, 3, 2))
  plain = fedavg(MODEL, SGD)
  seen = []
  spy = aggregation.identity()._replace(client=lambda m, s, own, k: (
      jax.debug.callback(seen.append, m.update.params['w']), (m, own))[1])
  masked = fedavg(MODEL, SGD, aggregator=aggregation.chain(
      weigh_and_quantize(), pairwise_mask(3), spy, reduce=integer_sum()))
  want, got = run(plain, data, rounds=1), run(masked, data, rounds=1)
  np.testing.assert_allclose(weight_of(got), weight_of(want), atol=3 / SCALE)
  # What leaves a client is masked: nowhere near its true update.
  jax.effects_barrier()
  assert np.median(np.abs(np.array(seen, np.float64))) > 2.0 ** 24
