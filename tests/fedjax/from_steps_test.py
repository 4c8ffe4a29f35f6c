"""Algorithms made of FedJAX's client functions, against a NumPy loop."""

import jax
import numpy as np
import pytest
from jax import numpy as jnp

from fedjax_sim import fedjax
from fedjax_sim.core import random
from fedjax_sim.experiment import simulate as simulate_lib
from fedjax_sim.fedjax.batch_counts import Repeat
from tests import numpy_fedavg, toys

MODEL = toys.softmax_model()
SIZES = [1, 17, 10, 20, 5]
RATE, MOMENTUM = 0.3, 0.5


def client_init(shared, key):
  del key
  return {'params': shared['params'], 'rate': shared['rate']}


def client_step(state, batch):
  def loss(params):
    outputs, _ = MODEL.apply(
        params, {}, batch['x'], key=None, train=True, mask=None)
    return jnp.mean(MODEL.loss(outputs, batch))
  value, gradient = jax.value_and_grad(loss)(state['params'])
  params = jax.tree.map(
      lambda p, g: p - state['rate'] * g, state['params'], gradient)
  return {**state, 'params': params}, {'batch_loss': value}


def client_final(shared, state):
  return jax.tree.map(jnp.subtract, shared['params'], state['params'])


def server_update(params, opt_state, mean):
  velocity = jax.tree.map(
      lambda v, d: MOMENTUM * v + d, opt_state['velocity'], mean)
  params = jax.tree.map(jnp.subtract, params, velocity)
  return params, {'velocity': velocity, 'rate': 0.9 * opt_state['rate']}


def build(**options):
  return fedjax.from_steps(
      client_init, client_step, client_final, True,
      server_init=lambda params: {
          'velocity': jax.tree.map(jnp.zeros_like, params),
          'rate': jnp.float32(RATE)},
      shared_input=lambda params, opt_state: {
          'params': params, 'rate': opt_state['rate']},
      server_update=server_update, **options)


def orders(t, client, size, count):
  """The rows that a client's batches hold, one after another."""
  key = random.client_key(
      random.round_key(jax.random.key(0), t), client, 0)
  key = random.named(random.named(key, 'client'), 'order')
  passes = [random.random_order(jax.random.fold_in(key, i), size, size)
            for i in range(-(-count // size))]
  return np.concatenate([np.zeros(0, int), *passes])[:count]


def reference(data, rounds, steps_of, batch_size, weights):
  """The two weights and the mean loss of the last round, in NumPy."""
  start = MODEL.init(random.named(jax.random.key(0), 'model'), None).params
  server = [np.asarray(start[k], np.float64) for k in 'wb']
  velocity, rate, losses = [0.0, 0.0], RATE, []
  for t in range(rounds):
    total, losses = [0.0, 0.0], []
    for k, weight in enumerate(weights):
      x, y = (data.client(k)[name] for name in 'xy')
      rows = orders(t, k, len(y), steps_of[k] * batch_size)
      w, b = server
      for chosen in rows.reshape(-1, batch_size):
        scores = x[chosen] @ w + b
        scores -= np.log(np.exp(scores).sum(1, keepdims=True))
        losses.append(-scores[np.arange(batch_size), y[chosen]].mean())
        dw, db = numpy_fedavg.softmax_gradients(w, b, x[chosen], y[chosen])
        w, b = w - rate * dw, b - rate * db
      for i, local in enumerate((w, b)):
        total[i] = total[i] + weight * (server[i] - local)
    velocity = [MOMENTUM * v + d / sum(weights)
                for v, d in zip(velocity, total, strict=True)]
    server = [s - v for s, v in zip(server, velocity, strict=True)]
    rate *= 0.9
  return server, np.mean(losses)


@pytest.mark.parametrize('lanes, options, steps, weights', [
    (1, dict(num_epochs=2), [1, 9, 5, 10, 3], SIZES),
    (2, dict(num_epochs=2), [1, 9, 5, 10, 3], SIZES),
    (2, dict(num_epochs=None, num_steps=3, weighting='uniform'), [3] * 5,
     [1] * 5),
    (5, dict(num_steps=4, drop_remainder=True), [0, 4, 2, 4, 1],
     [0, 17, 10, 20, 5]),
])
def test_is_the_numpy_loop(lanes, options, steps, weights):
  data = toys.softmax_data(SIZES)
  result = simulate_lib.simulate(
      MODEL, build(batch_size=4, **options), data, rounds=3,
      client_fraction=1.0, lanes=lanes, devices=1)
  want, loss = reference(data, 3, steps, 4, weights)
  for name, value in zip('wb', want, strict=True):
    np.testing.assert_allclose(
        result.variables.params[name], value, rtol=1e-4, atol=1e-5)
  np.testing.assert_allclose(result.records[-1]['train/batch_loss'], loss, 1e-4)


def test_a_client_s_key_is_its_own_and_the_round_s():
  """Outputs are draws of the keys: their mean by hand."""
  algorithm = fedjax.from_steps(
      lambda shared, key: key, lambda key, batch: jax.random.split(key)[0],
      lambda shared, key: {'w': jax.random.uniform(key, (2,)), 'count': 3},
      server_init=lambda params: jnp.zeros(2),
      server_update=lambda params, opt_state, mean: (
          {'w': mean['w']}, opt_state + mean['count']),
      batch_size=1)
  data = toys.points_data([np.ones((1, 2)), np.ones((3, 2))])
  result = simulate_lib.simulate(
      toys.quadratic_model(), algorithm, data, rounds=2, client_fraction=1.0,
      lanes=2, devices=1)
  draws = []
  for client, steps in enumerate([1, 3]):
    key = random.client_key(
        random.round_key(jax.random.key(0), 1), client, 0)
    key = random.named(random.named(key, 'client'), 'client input')
    for _ in range(steps):
      key = jax.random.split(key)[0]
    draws.append(jax.random.uniform(key, (2,)))
  np.testing.assert_allclose(
      result.variables.params['w'], (draws[0] + 3 * draws[1]) / 4, rtol=1e-6)
  np.testing.assert_array_equal(result.state.server.opt_state, [6, 6])


@pytest.mark.parametrize('repeat', [
    Repeat(4), Repeat(4, 3), Repeat(4, 3, drop_remainder=True),
    Repeat(4, 3, 5), Repeat(4, None, 5)])
def test_steps_are_those_of_the_stream(repeat):
  """On the host and traced, counted one batch at a time."""
  sizes = np.arange(12)
  want = []
  for size in sizes:
    steps, used = 0, 0
    while size and (repeat.num_steps is None or steps < repeat.num_steps):
      used += repeat.batch_size
      limit = np.inf if repeat.num_epochs is None else (
          size * repeat.num_epochs)
      if used - (0 if repeat.drop_remainder else repeat.batch_size - 1) > limit:
        break
      steps += 1
    want.append(steps)
  np.testing.assert_array_equal(repeat.steps(sizes), want)
  np.testing.assert_array_equal(jax.jit(repeat.steps)(sizes), want)
  assert [repeat.steps(int(size)) for size in sizes] == want


def test_a_model_with_state_is_refused():
  model = MODEL._replace(init=lambda key, x: MODEL.init(key, x)._replace(
      model_state={'mean': jnp.zeros(2)}))
  with pytest.raises(ValueError, match="without model_state.*'mean'"):
    simulate_lib.simulate(model, build(batch_size=4), toys.softmax_data(SIZES),
                          rounds=1, client_fraction=1.0)


@pytest.mark.parametrize('bad', [
    {'batch_size': 0}, {'batch_size': 1, 'num_epochs': 0},
    {'batch_size': 1, 'num_steps': 1.5}, {'batch_size': 1, 'weighting': 'n'},
    {'batch_size': 1, 'num_epochs': None}])
def test_bad_arguments(bad):
  with pytest.raises(ValueError, match=list(bad)[-1]):
    build(**bad)


@pytest.mark.parametrize('result, came', [
    (lambda x: {'loss': x['x'][:, 0]}, r'float32\[5\]'),
    (lambda x: x['x'].mean(), r'float32\[\]'),
    (lambda x: {'a': {'b': x['x'].mean()}}, 'float32'),
])
def test_step_results_that_are_no_scalars_by_name_are_refused(result, came):
  algorithm = fedjax.from_steps(
      lambda shared, key: shared, lambda state, batch: (state, result(batch)),
      with_step_result=True, batch_size=5,
      server_update=lambda params, opt_state, mean: (params, opt_state))
  with pytest.raises(ValueError, match=f'dict of scalars.*got.*{came}'):
    simulate_lib.simulate(
        MODEL, algorithm, toys.softmax_data(SIZES), rounds=1,
        clients_per_round=2, devices=1, lanes=1)
