"""`for_each_client` against a loop over clients and batches."""

import jax
import numpy as np
import pytest
from jax import numpy as jnp

import fedjax_sim as fs

# Of each client the numbers of examples of its batches.
CLIENTS = [[4, 4, 4], [4, 4, 1], [], [3], [4, 4, 4, 4, 4, 3], [3, 4, 3], [4]]


def make_clients(shapes=CLIENTS, seed=0):
  rng = np.random.default_rng(seed)
  for i, sizes in enumerate(shapes):
    batches = [{'x': rng.normal(size=(n, 3)).astype(np.float32),
                'y': rng.normal(size=n).astype(np.float32)} for n in sizes]
    yield f'client {i}', batches, {'rate': 0.01 * i}


def client_init(shared, own):
  """The count begins as an int that the steps make a float."""
  return {'w': shared['w'], 'rate': own['rate'], 'count': 0}


def client_step(state, batch):
  """SGD on a mean that must be over the rows of the batch and no others."""
  loss = lambda w: jnp.mean((batch['x'] @ w - batch['y']) ** 2)
  value, gradient = jax.value_and_grad(loss)(state['w'])
  w = state['w'] - state['rate'] * gradient
  count = state['count'] + jnp.sum(batch['y'])
  return {**state, 'w': w, 'count': count}, {'loss': value}


def client_final(shared, state):
  return shared['w'] - state['w'], state['count']


def expected(shared, clients):
  for name, batches, own in clients:
    state, results = client_init(shared, own), []
    for batch in batches:
      state, result = client_step(state, batch)
      results.append(result)
    yield name, client_final(shared, state), results


SHARED = {'w': np.array([1.0, -2.0, 0.5], np.float32)}


@pytest.mark.parametrize('lanes', [1, 3])
def test_is_the_loop_over_clients_and_batches(lanes):
  run = fs.for_each_client(
      client_init, client_step, client_final, True, lanes=lanes)
  got = list(run(SHARED, make_clients()))
  want = list(expected(SHARED, make_clients()))
  assert [c[0] for c in got] == [c[0] for c in want]
  for (_, output, results), (_, reference, losses) in zip(
      got, want, strict=True):
    for a, b in zip(output, reference, strict=True):
      np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    assert len(results) == len(losses)
    for a, b in zip(results, losses, strict=True):
      np.testing.assert_allclose(a['loss'], b['loss'], rtol=1e-5)


@pytest.mark.parametrize('make', [jax.random.key, jax.random.PRNGKey])
def test_keys_are_client_input_and_state(make):
  def step(state, batch):
    key, use = jax.random.split(state[0])
    return key, state[1] + jax.random.uniform(use) * batch

  run = fs.for_each_client(
      lambda shared, key: (key, 0.0), step,
      lambda shared, state: state[1], lanes=2)
  batches = [np.float32(1), np.float32(10)]
  got = dict(run(None, [(i, batches[:i], make(i)) for i in range(3)]))
  for i in range(3):
    state = make(i), 0.0
    for batch in batches[:i]:
      state = step(state, batch)
    np.testing.assert_allclose(got[i], state[1], rtol=1e-6)


def test_without_results_or_final_the_last_states_come_in_pairs():
  run = fs.for_each_client(
      lambda shared, own: shared, lambda state, batch: state + batch.sum())
  clients = [(7, [np.ones(2), np.ones(3)], None), ('b', [], None)]
  assert list(run(shared_input=1.0, clients=clients)) == [(7, 6.0), ('b', 1.0)]
  assert list(run(1.0, [])) == []


def test_step_compiles_once_a_shape():
  traced = []

  def step(state, batch):
    traced.append(batch.shape)
    return state + batch.sum()

  run = fs.for_each_client(lambda shared, own: shared, step, lanes=4)
  clients = lambda: [(i, [np.ones(4, np.float32)] * (6 + i % 3), None)
                     for i in range(12)]
  first = list(run(0.0, clients()))
  count = len(traced)
  assert list(run(0.0, clients())) == first
  assert len(traced) == count


def test_clients_are_taken_a_block_at_a_time():
  taken = []

  def clients():
    for i in range(100):
      taken.append(i)
      yield i, [np.ones(1)], None

  run = fs.for_each_client(
      lambda shared, own: 0.0, lambda state, batch: state + batch[0], lanes=3)
  assert next(run(None, clients())) == (0, 1.0)
  assert len(taken) <= 4


def test_client_inputs_may_differ_in_shape():
  run = fs.for_each_client(
      lambda shared, own: jnp.sum(own), lambda state, batch: state, lanes=4)
  clients = [(n, [], np.ones(n, np.float32)) for n in (2, 2, 5, 2)]
  assert list(run(None, clients)) == [(2, 2.0), (2, 2.0), (5, 5.0), (2, 2.0)]


def test_models_are_evaluated_by_masked_batches():
  """The count of right answers, with padding that would be right too."""
  rng = np.random.default_rng(0)
  examples = [{'x': rng.integers(0, 2, n)} for n in (7, 3, 8)]
  step = lambda right, batch: right + jnp.sum(
      (batch['x'] == 0) & batch['__mask__'])
  run = fs.for_each_client(lambda shared, own: 0, step)
  got = dict(run(None, [
      (i, fs.fedjax.padded_batch(e, batch_size=4), None)
      for i, e in enumerate(examples)]))
  assert got == {i: np.sum(e['x'] == 0) for i, e in enumerate(examples)}


@pytest.mark.parametrize('step, message', [
    (lambda state, batch: (state, state), 'structure that it takes'),
    (lambda state, batch: state[None], 'same structure, shapes')])
def test_states_of_another_kind(step, message):
  run = fs.for_each_client(lambda shared, own: jnp.zeros(2), step)
  with pytest.raises(ValueError, match=message):
    list(run(None, [(0, [np.ones(1)], None)]))


def test_bad_lanes():
  with pytest.raises(ValueError, match='lanes must be .* got 0'):
    fs.for_each_client(client_init, client_step, lanes=0)


def test_lanes_narrow_whatever_the_order_of_clients():
  """Steps 9, 2, 1, 1 side by side: 4 wide until 1, 2 until 2, 1 until 9."""
  done = []

  def step(state, batch):
    jax.debug.callback(lambda _: done.append(1), state)
    return state + batch

  run = fs.for_each_client(lambda shared, own: 0.0, step, lanes=4)
  one = np.float32(1)
  got = list(run(None, [(n, [one] * n, None) for n in (1, 2, 9, 1)]))
  jax.effects_barrier()
  assert got == [(1, 1.0), (2, 2.0), (9, 9.0), (1, 1.0)]
  assert len(done) == 4 * 1 + 2 * 1 + 1 * 7
