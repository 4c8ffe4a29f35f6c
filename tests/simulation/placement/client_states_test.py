"""States of clients that are stored give what the same on the device give."""

import jax
import numpy as np
import optax
import pytest
from jax import numpy as jnp

from fedjax_sim import aggregation, algorithms, data, evaluation
from fedjax_sim.algorithms.fedavg import from_client_update
from fedjax_sim.clients.local_sgd import difference, run_sgd
from fedjax_sim.core.types import ClientOutput, Variables
from fedjax_sim.data import sampling
from fedjax_sim.experiment import simulate as simulate_lib
from fedjax_sim.simulation import build as build_lib
from fedjax_sim.simulation.placement import (
    client_states,
    device_memory,
    stored_states,
)
from tests import toys

MODEL = toys.softmax_model()
SIZES = [1, 37, 10, 20, 5, 11, 30, 2, 19, 8, 3]
COHORT, ROUNDS = 3, 9
ROW_BYTES = 60 + 4 + 1 + 4 + 8


def counted():
  """A transform that counts, in each client's state, its messages."""
  return aggregation.identity()._replace(
      client_init=lambda message: jnp.zeros(2, jnp.int32),
      client=lambda message, state, memory, keys, cohort: (
          message, memory + 1))


def personal():
  """Each client keeps weights of its own, and notes of other dtypes."""
  def client(server, state, own, key):
    local = run_sgd(MODEL, optax.sgd(0.1), server.variables, own, key,
                    batch_size=5)
    mixed = jax.tree.map(lambda a, b: 0.5 * (a + b), state['params'],
                         local.variables.params)
    new = {'params': mixed, 'times': state['times'] + 1,
           'seen': jnp.array(True), 'half': (state['half'] * 3 + 1)}
    message = difference(local.variables, server.variables, own.size)
    return ClientOutput(message, new, local.metrics)

  return from_client_update(client)._replace(
      client_init=lambda variables: {
          'params': variables.params, 'times': jnp.int32(0),
          'seen': jnp.array(False), 'half': jnp.ones(2, jnp.bfloat16)},
      personalize=lambda state, own, data, key: Variables(own['params'], {}),
      aggregator=aggregation.aggregator(counted()))


def run(client_state, train=None, cohort=COHORT, **options):
  return simulate_lib.simulate(
      MODEL, personal(), train or toys.softmax_data(SIZES), rounds=ROUNDS,
      clients_per_round=cohort, client_state=client_state,
      **{'lanes': 2, 'devices': 1} | options)


def assert_same(got, want):
  """All bits; `got` is stored, `want` is not."""
  jax.tree.map(np.testing.assert_array_equal, got.state.server,
               want.state.server)
  assert got.state.transforms == ()
  rows = got.state.clients.store.read(np.arange(len(SIZES)))
  expected = jax.tree.map(lambda x: np.asarray(x)[:len(SIZES)],
                          (want.state.clients, want.state.transforms))
  assert jax.tree.structure(rows) == jax.tree.structure(expected)
  for a, b in zip(jax.tree.leaves(rows), jax.tree.leaves(expected),
                  strict=True):
    assert a.dtype == b.dtype
    np.testing.assert_array_equal(a, b)


@pytest.fixture(scope='module')
def on_device():
  return run('device')


@pytest.fixture(scope='module')
def stored():
  return run('stored')


@pytest.mark.bits
@pytest.mark.parametrize('rows,dispatch', [
    (3, None), (None, 1), pytest.param(5, 4, marks=pytest.mark.slow)])
def test_stored_states_give_the_same_bits(
    monkeypatch, on_device, rows, dispatch):
  """Also where a window holds few rounds, or one alone."""
  if rows:
    monkeypatch.setattr(stored_states, '_BUFFER_BYTES', rows * ROW_BYTES)
  got = run('stored', rounds_per_dispatch=dispatch)
  assert_same(got, on_device)
  times = got.state.clients.store.read(np.arange(len(SIZES)))[0]['times']
  assert times.sum() == ROUNDS * COHORT and times.min() < times.max()


def test_of_a_mapped_federation_too(monkeypatch, tmp_path, on_device):
  """Windows end where either buffer is full."""
  held = toys.softmax_data(SIZES)
  mapped = data.write_mapped(tmp_path / 'mapped', (
      (name, held.client(i)) for i, name in enumerate(held.client_ids)))
  for rows, examples in ((6, 87), (4, 400)):
    monkeypatch.setattr(stored_states, '_BUFFER_BYTES', rows * ROW_BYTES)
    monkeypatch.setattr(build_lib.streamed_examples, 'buffer_size',
                        lambda *args, n=examples: n)
    assert_same(run('stored', mapped), on_device)


def test_windows_hold_each_client_once_and_no_other(monkeypatch):
  monkeypatch.setattr(stored_states, '_BUFFER_BYTES', 5 * ROW_BYTES)
  simulation = build_lib.build(
      MODEL, personal(), toys.softmax_data(SIZES),
      sampling.uniform(len(SIZES), COHORT, 0), devices=1, lanes=2,
      client_state='stored')
  assert simulation.state_buffer == 5
  start = 0
  while start < ROUNDS:
    window = simulation.window(start, ROUNDS)
    (held,) = window.clients
    used = window.plan.slots.present[:window.stop - start]
    clients = window.plan.slots.client[:window.stop - start][used]
    assert sorted(held) == sorted(set(clients.tolist())) and len(held) <= 5
    np.testing.assert_array_equal(
        held[window.plan.slots.state_index[:window.stop - start][used]],
        clients)
    start = window.stop
  assert simulation.engine.states[0]['times'].shape == (5,)


def test_each_client_is_evaluated_with_its_own_state(
    monkeypatch, on_device, stored):
  train = toys.softmax_data(SIZES)
  test = toys.softmax_data([4] * len(SIZES), seed=1)
  metrics = lambda result: evaluation.evaluate_clients(
      MODEL, personal(), result.state, train, test, key=jax.random.key(0),
      lanes=2)
  want = metrics(on_device)
  assert len(set(want.values['loss'])) > 5
  monkeypatch.setattr(stored_states, '_BLOCK_BYTES', 4 * ROW_BYTES)
  got = metrics(stored)
  for name, values in want.values.items():
    np.testing.assert_allclose(got.values[name], values, rtol=1e-6)


def test_stored_where_they_would_take_a_quarter_of_the_memory(monkeypatch):
  states = jax.eval_shape(lambda: {'w': jnp.zeros(250), 'n': jnp.int32(0)})
  each = 1004
  stored = lambda choice, n, d=1: client_states.is_stored(choice, states, n, d)
  monkeypatch.setattr(device_memory, 'available', lambda device: 4 * 100 * each)
  assert not stored('auto', 100) and stored('auto', 101)
  # Devices of a CPU share its memory; rows fill them up.
  assert stored('auto', 100, 3) and not stored('auto', 99, 3)
  assert stored('stored', 1) and not stored('device', 10 ** 9)
  assert not client_states.is_stored('stored', ((), ()), 100, 1)
  monkeypatch.setattr(device_memory, 'available', lambda device: None)
  assert not stored('auto', 10 ** 9)


def test_several_processes_cannot_store(monkeypatch):
  states = jax.eval_shape(lambda: jnp.zeros(250))
  monkeypatch.setattr(jax, 'process_count', lambda: 2)
  assert not client_states.is_stored('device', states, 10, 2)
  with pytest.raises(ValueError, match="'stored' would store .*'device'"):
    client_states.is_stored('stored', states, 10, 2)


def test_a_choice_that_is_none():
  with pytest.raises(ValueError, match='client_state must be one of auto'):
    run('disk')


def test_algorithms_without_client_state_store_nothing():
  simulation = build_lib.build(
      MODEL, algorithms.fedavg(MODEL, optax.sgd(0.1)),
      toys.softmax_data(SIZES), sampling.uniform(len(SIZES), COHORT, 0),
      devices=1, lanes=2, client_state='stored')
  assert simulation.state_buffer is None and simulation.init().clients == ()
