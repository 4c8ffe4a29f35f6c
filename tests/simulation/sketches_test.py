"""The types carry ten published algorithms with no special case in the engine.

Each sketch is a page of its own algorithm at its smallest, run through the
real engine in several blocks, and held by something that can fail.
"""

import jax
import numpy as np
import optax
from jax import numpy as jnp

from fedjax_sim import aggregation
from fedjax_sim.algorithms.fedavg import (
    fedavg,
    from_client_update,
)
from fedjax_sim.clients import batches
from fedjax_sim.clients.gradients import batch_gradient
from fedjax_sim.clients.local_sgd import difference, run_sgd
from fedjax_sim.core import trees
from fedjax_sim.core.types import (
    Aggregate,
    ClientOutput,
    Message,
    Model,
    Reducer,
    Variables,
)
from fedjax_sim.simulator import simulate
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


def sum_local(model, variables, data, key):
  """(mean loss, gradient of it) at `variables` over the whole local data."""
  def step(_, batch):
    grads, _, metrics = batch_gradient(model, variables, batch)
    total, count = metrics['loss']
    return total / count, grads
  zeros = jnp.float32(0), jax.tree.map(jnp.zeros_like, variables.params)
  return batches.for_each_batch(data, step, zeros, key=key, batch_size=None)


def q_fedavg(q, lr=0.1):
  """Li et al. (2020), algorithm 2: the denominator is a sum over clients."""
  lipschitz = 1 / lr

  def client(server, state, data, key):
    loss, _ = sum_local(MODEL, server.variables, data, key)
    local = run_sgd(MODEL, SGD, server.variables, data, key, batch_size=None)
    delta = jax.tree.map(
        lambda a, b: lipschitz * (a - b), server.variables, local.variables)
    square = sum(jnp.sum(d ** 2) for d in jax.tree.leaves(delta))
    scale = (loss + 1e-10) ** q
    h = q * (loss + 1e-10) ** (q - 1) * square + lipschitz * scale
    message = Message(jax.tree.map(lambda d: scale * d, delta),
                      jnp.float32(1), jnp.array(True), {'h': h})
    return ClientOutput(message, state, local.metrics)

  base = from_client_update(client)

  def server(state, aggregate, key):
    factor = -aggregate.weight / aggregate.aux['h']
    mean = jax.tree.map(lambda d: factor * d, aggregate.mean)
    return base.server(state, aggregate._replace(mean=mean), key)

  return base._replace(server=server)


def test_q_fedavg_at_zero_is_uniform_fedavg_and_q_levels_the_losses():
  data = points([(0, 0), (0, 0), (3, 3)], (2, 3, 4))
  uniform = fedavg(MODEL, SGD, batch_size=None, weighting='uniform')
  want = weight_of(run(uniform, data, rounds=4))
  got = weight_of(run(q_fedavg(0.0), data, rounds=4))
  np.testing.assert_allclose(got, want, rtol=1e-5)
  # Minimum of sum_k F_k^(q+1): closer to the middle, (1.5, 1.5), as q grows.
  fair = weight_of(run(q_fedavg(5.0), data, rounds=300))
  assert np.all((fair > 1.2) & (fair < 1.5)) and np.all(fair > want)


def ifca(centres):
  """Ghosh et al. (2020), algorithm 1 with model averaging, K clusters."""
  num = len(centres)

  def client(server, state, data, key):
    at = lambda k: jax.tree.map(lambda x: x[k], server.variables)
    losses = jnp.stack(
        [sum_local(MODEL, at(k), data, key)[0] for k in range(num)])
    mine = jnp.argmin(losses)
    local = run_sgd(MODEL, SGD, at(mine), data, key, batch_size=2)
    delta = jax.tree.map(jnp.subtract, local.variables, at(mine))
    one_hot = jax.nn.one_hot(mine, num)
    update = jax.tree.map(
        lambda d: one_hot.reshape(-1, *[1] * d.ndim) * d[None], delta)
    message = Message(update, one_hot * data.size, jnp.array(True), {})
    return ClientOutput(message, state, local.metrics)

  base = from_client_update(client)
  starts = Variables({'w': jnp.asarray(centres, jnp.float32)}, {})
  return base._replace(init=lambda v, key, n: base.init(starts, key, n))


def test_ifca_recovers_planted_clusters():
  truth = [(0, 0), (5, 5), (0, 0), (5, 5), (5, 5)]
  data = points(truth, (4, 6, 3, 5, 2), noise=0.1)
  found = weight_of(run(ifca([(1, 0), (3, 4)]), data, rounds=40))
  np.testing.assert_allclose(found, [(0, 0), (5, 5)], atol=0.2)


def apfl(alpha):
  """Deng et al. (2020): personal model alpha v + (1 - alpha) w."""
  def client(server, v, data, key):
    local = run_sgd(MODEL, SGD, server.variables, data, key, batch_size=2)
    w = server.variables.params
    mixed = jax.tree.map(lambda v, w: alpha * v + (1 - alpha) * w, v, w)
    _, grads = sum_local(MODEL, Variables(mixed, {}), data, key)
    v = jax.tree.map(lambda v, g: v - 0.5 * alpha * g, v, grads)
    message = difference(local.variables, server.variables, data.size)
    return ClientOutput(message, v, local.metrics)

  def personalize(state, v, data, key):
    w = state.variables.params
    return Variables(jax.tree.map(
        lambda v, w: alpha * v + (1 - alpha) * w, v, w), {})

  return from_client_update(client)._replace(
      client_init=lambda variables: variables.params, personalize=personalize)


def test_apfl_fits_each_client_beside_the_global_model():
  data = points([(0, 0), (4, 2), (1, 1)], (4, 6, 2))
  algorithm = apfl(0.5)
  result = run(algorithm, data, rounds=100)
  personal = jax.vmap(lambda v: algorithm.personalize(
      result.state.server, v, None, None).params['w'])(result.state.clients)
  np.testing.assert_allclose(personal, [(0, 0), (4, 2), (1, 1)], atol=1e-3)


def batch_norm_model():
  """Centres its input by a running mean that is model state."""
  def apply(params, state, x, *, key, train, mask):
    count = jnp.maximum(mask.sum(), 1)
    batch_mean = jnp.where(mask[:, None], x, 0).sum(0) / count
    mean = batch_mean if train else state['mean']
    state = {'mean': 0.5 * state['mean'] + 0.5 * batch_mean} if train else state
    return params['w'][None] + 0 * x + (x - mean[None]), state
  return Model(
      lambda key, x: Variables({'w': jnp.ones(2)}, {'mean': jnp.zeros(2)}),
      apply, lambda out, e: 0.5 * jnp.sum(out ** 2, -1), MODEL.metrics)


def fedbn(model):
  """Li et al. (2021): statistics stay at home, weights are averaged."""
  def client(server, statistics, data, key):
    start = server.variables._replace(model_state=statistics)
    local = run_sgd(model, SGD, start, data, key, batch_size=None)
    message = difference(local.variables, start, data.size)
    home = jax.tree.map(jnp.zeros_like, message.update.model_state)
    update = message.update._replace(model_state=home)
    return ClientOutput(message._replace(update=update),
                        local.variables.model_state, local.metrics)
  return from_client_update(client)._replace(
      client_init=lambda v: v.model_state,
      personalize=lambda state, own, data, key: state.variables._replace(
          model_state=own))


def test_fedbn_keeps_statistics_at_home():
  model, centres = batch_norm_model(), [(0, 1), (4, 2), (-3, 5)]
  data = points(centres, (3, 4, 2))
  result = run(fedbn(model), data, model=model, rounds=30)
  np.testing.assert_allclose(
      result.state.clients['mean'], centres, atol=1e-4)
  np.testing.assert_array_equal(result.variables.model_state['mean'], [0, 0])
  averaged = run(fedavg(model, SGD, batch_size=None), data, model=model,
                 rounds=30)
  np.testing.assert_allclose(averaged.variables.model_state['mean'],
                             np.average(centres, axis=0, weights=[3, 4, 2]),
                             atol=1e-4)


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
