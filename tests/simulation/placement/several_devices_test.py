"""Rounds over several devices give what they give on one.

What a device computes is the engine's, and what merges over devices is one
collective, so the identities below carry all other tests over. Those of the
engine that are imported depend on where a client's slot lies.
"""

import functools

import jax
import numpy as np
import optax
import pytest

from fedjax_sim import algorithms
from fedjax_sim.data import sampling
from fedjax_sim.data.federated import federate
from fedjax_sim.experiment import simulate as simulate_lib
from fedjax_sim.experiment.checkpoints import Checkpoints
from fedjax_sim.simulation import autotune
from fedjax_sim.simulation import build as build_lib
from fedjax_sim.simulation.drive import drive
from fedjax_sim.simulation.placement import sharding, stored_states
from tests import toys
from tests.simulation.engine_test import (  # noqa: F401
  assert_close,
  test_a_client_drawn_twice_draws_anew,
  test_an_absent_client_may_hold_nan,
  test_rounds_per_dispatch_do_not_change_a_bit,
)

CURVED = toys.curved_model()
SOFTMAX = toys.softmax_model()
FEDAVG = algorithms.fedavg(SOFTMAX, optax.sgd(0.1), epochs=2, batch_size=10)
FEDSGD = algorithms.fedsgd(SOFTMAX, 0.3)
UNEQUAL = [1, 37, 10, 20, 5, 11, 30, 2, 19, 8, 3]


@pytest.fixture(autouse=True)
def _auto_is_as_many_devices_as_clients(monkeypatch):
  def choose(make, cohort_size, devices, lanes, *job):
    devices = min(cohort_size, 8) if devices == 'auto' else devices
    return make(devices, min(lanes, -(-cohort_size // devices))), 'test'
  monkeypatch.setattr(autotune, 'choose', choose)


@functools.cache
def run_on(devices, algorithm=FEDAVG, lanes=2, **options):
  return simulate_lib.simulate(
      SOFTMAX, algorithm, toys.softmax_data(UNEQUAL), rounds=4,
      clients_per_round=9, test=toys.softmax_data([55], seed=0).examples,
      eval_every=2, devices=devices, lanes=lanes, **options)


@pytest.mark.parametrize('devices, lanes', [(3, 3), (8, 1)])
def test_the_number_of_devices_does_not_matter(devices, lanes):
  want, got = run_on(1), run_on(devices, lanes=lanes)
  assert_close(got.variables, want.variables, 1e-6)
  for a, b in zip(got.records, want.records, strict=True):
    assert a['clients'] == b['clients']
    assert a.keys() == b.keys()
    for name in {'train/loss', 'test/loss', 'test/accuracy'} & a.keys():
      assert a[name] == pytest.approx(b[name], rel=1e-5)


@pytest.mark.parametrize('devices, algorithm', [
    (1, FEDSGD), (3, FEDAVG), (3, FEDSGD), (8, FEDAVG)])
def test_devices_that_own_examples(devices, algorithm):
  want = run_on(1, algorithm)
  got = run_on(devices, algorithm, examples='owned')
  assert_close(got.variables, want.variables, 1e-6)


def test_what_a_device_owns_lies_on_it():
  data = toys.softmax_data(UNEQUAL)
  simulation = build_lib.build(
      SOFTMAX, algorithms.fedavg(SOFTMAX, optax.sgd(0.1)), data,
      sampling.uniform(len(UNEQUAL), 9, 0), devices=4, examples='owned',
      lanes=2)
  parts = [UNEQUAL[i:i + 3] for i in range(0, 11, 3)]
  rows = max(map(sum, parts))
  for device, part in enumerate(parts):
    shard = simulation.examples['x'].addressable_shards[device]
    assert shard.data.shape[0] == rows
    first = sum(UNEQUAL[:3 * device])
    np.testing.assert_array_equal(
        shard.data[:sum(part)], data.examples['x'][first:first + sum(part)])
  plan = simulation.plan(0, [False])
  for device in range(4):
    present = plan.slots.present[0, device]
    assert set(plan.slots.client[0, device][present] // 3) <= {device}
  window = simulation.window(0, 1)
  steps = [(-(-plan.slots.size[0, d] // 10)).sum() for d in range(4)]
  assert window.imbalance[0] == pytest.approx(max(steps) / np.mean(steps) - 1)


def test_pooled_gradients_over_devices():
  want, got = (run_on(devices, FEDSGD) for devices in (1, 5))
  assert_close(got.variables, want.variables, 1e-6)


def test_each_device_holds_its_own_clients_state():
  data = toys.curved_data()
  simulation = build_lib.build(
      CURVED, algorithms.scaffold(CURVED, 0.05), data,
      sampling.uniform(3, 2, 0), devices=2, lanes=2)
  state = simulation.init()
  held = state.clients.value['w']
  assert held.shape == (4, 2)  # Three, filled up to four.
  assert [s.data.shape for s in held.addressable_shards] == [(2, 2)] * 2
  plan = simulation.plan(0, [False] * 5)
  for device in range(2):
    held = plan.slots.client[:, device][plan.slots.present[:, device]]
    assert set(held) <= {2 * device, 2 * device + 1}


def test_a_run_goes_on_with_another_number_of_devices(tmp_path):
  data = toys.curved_data()

  def simulation(devices):
    return build_lib.build(
        CURVED, algorithms.scaffold(CURVED, 0.05), data,
        sampling.uniform(3, 2, 0), devices=devices, lanes=1)

  def go_on(devices, state, stop):
    one = simulation(devices)
    *_, last = drive(one, state, stop)
    return last.state

  whole = sharding.gather(go_on(1, simulation(1).init(), 6))
  with Checkpoints(tmp_path, keep=3) as checkpoints:
    state = simulation(1).init()
    for stop, devices in ((2, 1), (4, 2), (6, 1)):
      state = go_on(devices, state, stop)
      checkpoints.save(stop, state)
      state = checkpoints.restore(stop, simulation(3 - devices).init())
  assert_close(
      jax.tree.map(lambda x: x[:3], state.clients), whole.clients, 1e-6)
  assert_close(
      state.server.variables, whole.server.variables, 1e-6)


@pytest.mark.bits
def test_stored_states_give_the_same_bits_on_several_devices(monkeypatch):
  monkeypatch.setattr(stored_states, '_BUFFER_BYTES', 1)
  points = np.random.default_rng(0).normal(size=(40, 2)).astype(np.float32)
  data = federate({'x': points, 'y': np.ones(40, np.float32)},
                  toys.partition_of([2] * 20))

  def run(client_state):
    return simulate_lib.simulate(
        CURVED, algorithms.scaffold(CURVED, 0.05), data, rounds=7,
        clients_per_round=6, devices=3, lanes=2, client_state=client_state,
        rounds_per_dispatch=2)

  got, want = run('stored').state, run('device').state
  assert_equal = lambda a, b: jax.tree.map(np.testing.assert_array_equal, a, b)
  assert_equal(got.server, want.server)
  clients, transforms = got.clients.store.read(np.arange(20))
  assert_equal(clients, jax.tree.map(lambda x: x[:20], want.clients))
  assert clients.value['w'].any(axis=1).sum() > 10


def test_more_devices_than_there_are():
  with pytest.raises(ValueError, match='from 1 to 8.*got 9'):
    run_on(9)


def test_lanes_are_those_of_a_device():
  assert autotune._choices(10, 'auto', 'auto') == [
      (8, 1), (8, 2), (1, 1), (1, 2), (1, 4), (1, 5), (1, 10)]
  assert autotune._choices(3, 'auto', 4) == [(3, 1), (1, 3)]
  assert autotune._choices(10, 2, 'auto') == [
      (2, 1), (2, 2), (2, 3), (2, 5)]
