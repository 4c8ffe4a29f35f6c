"""Federations that are mapped give what the same ones in memory give."""

import jax
import numpy as np
import optax
import pytest

from fedjax_sim import algorithms, data
from fedjax_sim.data import sampling
from fedjax_sim.experiment import simulate as simulate_lib
from fedjax_sim.simulation import build as build_lib
from fedjax_sim.simulation.placement import streamed_examples
from tests import toys

MODEL = toys.softmax_model()
SIZES = [1, 37, 10, 20, 5, 11, 30, 2, 19, 8, 3]


def mapped(folder, federation):
  return data.write_mapped(folder / 'mapped', (
      (name, federation.client(i))
      for i, name in enumerate(federation.client_ids)))


@pytest.mark.bits
@pytest.mark.parametrize('algorithm, rows', [
    ('fedavg', 87), ('fedsgd', 120),
    pytest.param('fedavg', None, marks=pytest.mark.slow)])
def test_a_mapped_federation_trains_to_the_same_bits(
    tmp_path, monkeypatch, rows, algorithm):
  """Also when a window holds few rounds, or one alone."""
  held = toys.softmax_data(SIZES)
  make = {'fedavg': lambda: algorithms.fedavg(
              MODEL, optax.sgd(0.1), epochs=2, batch_size=10),
          'fedsgd': lambda: algorithms.fedsgd(MODEL, 0.3)}[algorithm]
  if rows:
    monkeypatch.setattr(streamed_examples, 'buffer_size', lambda *args: rows)
  results = [
      simulate_lib.simulate(MODEL, make(), one, rounds=9, clients_per_round=3,
                            lanes=2, devices=1)
      for one in (held, mapped(tmp_path, held))]
  jax.tree.map(np.testing.assert_array_equal, results[0].state.server,
               results[1].state.server)
  assert [r['round'] for r in results[1].records] == list(range(1, 10))


def test_any_cohort_fits_into_a_buffer(tmp_path, monkeypatch):
  monkeypatch.setattr(streamed_examples, '_BUFFER_BYTES', 1)
  federation = toys.softmax_data(SIZES)
  assert streamed_examples.buffer_size(federation, 3) == 37 + 30 + 20
  assert streamed_examples.buffer_size(federation, len(SIZES)) == sum(SIZES)
  monkeypatch.setattr(streamed_examples, '_BUFFER_BYTES', 50 * (4 * 4 + 4))
  assert streamed_examples.buffer_size(federation, 1) == 50


def test_buffers_hold_each_client_once_and_only_what_is_needed(tmp_path):
  federation = mapped(tmp_path, toys.softmax_data(SIZES))
  simulation = build_lib.build(
      MODEL, algorithms.fedavg(MODEL, optax.sgd(0.1)), federation,
      sampling.uniform(len(SIZES), 4, 0), devices=1, lanes=2)
  plan = simulation.plan(0, [False] * 6)
  loads = streamed_examples.load(plan, 6, plan.slots.size, room=10 ** 6)
  assert loads.num_rounds == 6
  (clients,) = loads.clients
  assert sorted(clients) == sorted(set(plan.slots.client[plan.slots.present]))
  examples = streamed_examples.fill_buffers(
      federation, loads, 10 ** 3, simulation.placement)
  for client, offset, size in zip(
      plan.slots.client[plan.slots.present], loads.places[plan.slots.present],
      plan.slots.size[plan.slots.present], strict=True):
    np.testing.assert_array_equal(
        examples['x'][offset:offset + size], federation.client(client)['x'])
  loads = streamed_examples.load(plan, 6, plan.slots.size, room=80)
  assert 1 <= loads.num_rounds < 6
  assert sum(federation.sizes[c] for c in loads.clients[0]) <= 80
