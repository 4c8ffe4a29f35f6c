import jax
import numpy as np
import optax
import pytest

from fedjax_sim import algorithms, simulate, systems
from fedjax_sim.core.types import Slot
from fedjax_sim.data import sampling
from fedjax_sim.data.federated import federate
from fedjax_sim.simulation import build as build_lib
from fedjax_sim.simulation import in_time
from fedjax_sim.simulation.drive import drive
from tests import toys

MODEL = toys.linear_model()
SIZES = [2, 5, 3, 4, 6]
EDGE_OF = [0, 1, 1, 0, 2]
RATE, STEPS = 0.1, 2


def regression():
  rng = np.random.default_rng(0)
  x = rng.normal(size=(sum(SIZES), 3)).astype(np.float32)
  y = (x @ [1, -2, 0.5] + rng.normal(size=len(x))).astype(np.float32)
  return federate({'x': x, 'y': y}, toys.partition_of(SIZES))


DATA = regression()


def hierfavg(model=MODEL, server_optimizer=None, **options):
  return algorithms.hierfavg(
      model, optax.sgd(RATE), server_optimizer,
      **{'steps': STEPS, 'batch_size': None} | options)


def slot_of(client):
  return Slot(np.int32(client), *[np.int32(0)] * 6)


def flat(params):
  return np.concatenate(
      [np.asarray(params['w']), np.asarray(params['b'])[..., None]], -1)


def by_hand(cohorts, kappa2):
  """Algorithm 1, one client after the other: edges' models, and the cloud's."""
  cloud, edges = np.zeros(4), np.zeros((3, 4))
  reported = np.zeros(3)
  for t, cohort in enumerate(cohorts, 1):
    local, sizes = {0: [], 1: [], 2: []}, {0: [], 1: [], 2: []}
    for k in cohort:
      own = DATA.client(k)
      x = np.c_[own['x'], np.ones(SIZES[k])]
      w = edges[EDGE_OF[k]].copy()
      for _ in range(STEPS):
        w -= RATE * x.T @ (x @ w - own['y']) / SIZES[k]
      local[EDGE_OF[k]].append(w)
      sizes[EDGE_OF[k]].append(SIZES[k])
    for e in range(3):
      if local[e]:
        edges[e] = np.average(local[e], axis=0, weights=sizes[e])
        reported[e] += sum(sizes[e])
    mean = np.average(edges, axis=0, weights=reported) if any(
        reported) else cloud
    if t % kappa2 == 0:
      cloud, edges, reported = mean, np.tile(mean, (3, 1)), np.zeros(3)
  return edges, mean


def test_rounds_by_hand():
  """Edges of which nobody is drawn keep their model, and weigh what they
  have heard."""
  cohorts = [[0, 1, 4], [2, 3, 0], [1, 2], [3], [4, 0]]
  algorithm = hierfavg(edges=EDGE_OF, kappa2=3)
  simulation = build_lib.build(
      MODEL, algorithm, DATA, sampling.Sampler(
          lambda r: np.array(cohorts[r]), 3, 5), lanes=2, devices=1)
  for progress in drive(simulation, simulation.init(), len(cohorts),
                        rounds_per_dispatch=1):
    state = jax.device_get(progress.state.server)
    edges, mean = by_hand(cohorts[:state.round], 3)
    np.testing.assert_allclose(flat(state.variables.params), edges, atol=1e-6)
    np.testing.assert_allclose(
        flat(algorithm.evaluated(state).params), mean, atol=1e-6)


@pytest.mark.parametrize('options', [{'edges': 3}, *(
    pytest.param(options, marks=pytest.mark.slow) for options in (
        {'edges': EDGE_OF},
        {'edges': 2, 'assign': 'random', 'num_clients': 5}))])
def test_a_cloud_that_averages_in_every_round_is_fedavg_s_server(options):
  """Also with an optimizer; to rounding, since means of means are rounded."""
  server = lambda: optax.adam(0.1)
  training = {'epochs': 2, 'batch_size': 2}
  got = hierfavg(MODEL, server(), kappa2=1, **options, **training, steps=None)
  want = algorithms.fedavg(MODEL, optax.sgd(RATE), server(), **training)
  cohorts = [[0, 1, 2, 3, 4], [3, 1], [2]]
  got, want = (toys.run_cohorts(MODEL, x, DATA, cohorts).server
               for x in (got, want))
  for model in flat(got.variables.params):
    np.testing.assert_allclose(
        model, flat(want.variables.params), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize('options, want', [
    ({'edges': 2}, [0, 1, 0, 1, 0]),
    ({'edges': 2, 'assign': 'contiguous'}, [0, 0, 0, 1, 1]),
    ({'edges': EDGE_OF}, EDGE_OF)])
def test_who_is_of_which_edge(options, want):
  """What a client receives is its edge's model."""
  algorithm = hierfavg(kappa2=9, num_clients=5, **options)
  told = first_broadcast(algorithm)
  numbers = np.arange(max(want) + 1.0)
  told = told._replace(variables=told.variables._replace(
      params={'w': np.tile(numbers, (3, 1)).T, 'b': numbers}))
  for k, edge in enumerate(want):
    got = algorithm.receive(told, slot_of(k), None)
    assert got.edge == edge
    np.testing.assert_array_equal(flat(got.variables.params), [edge] * 4)


def first_broadcast(algorithm):
  variables = MODEL.init(jax.random.key(0), DATA.examples['x'][:1])
  return algorithm.broadcast(
      algorithm.init(variables, jax.random.key(0), 5))


def test_random_edges_are_as_large_and_of_their_seed():
  numbers = []
  for seed in (0, 0, 1):
    algorithm = hierfavg(edges=4, kappa2=1, assign='random', edge_seed=seed,
                         num_clients=50)
    told = first_broadcast(algorithm)
    numbers.append([int(algorithm.receive(told, slot_of(k), None).edge)
                    for k in range(50)])
  assert numbers[0] == numbers[1] != numbers[2]
  assert sorted(np.bincount(numbers[2])) == [12, 12, 13, 13]


def test_the_two_kinds_of_traffic_are_counted_apart():
  model = 4 * 4  # Bytes.
  records = simulate(
      MODEL, hierfavg(edges=2, kappa2=2), DATA, rounds=5,
      clients_per_round=3).records
  # Besides the model: round and edge; the weight and the edge.
  assert {(r['bytes_down'], r['bytes_up']) for r in records} == {
      (3 * (model + 8),) * 2}
  for name, each in (('bytes_edge_up', model + 4),  # With the edge's weight.
                     ('bytes_edge_down', model)):
    assert [r[name] for r in records] == [0, 2 * each, 0, 2 * each, 0]


def test_the_cloud_takes_simulated_time():
  algorithm = hierfavg(edges=2, kappa2=2, cloud_seconds=5.0)
  devices = systems.identical(step_seconds=0.1, down_bps=64, up_bps=64)
  plain, known = (in_time.Systems(devices).timeline(
      one, DATA, MODEL.init(jax.random.key(0), DATA.examples['x']),
      sampling.uniform(5, 3, 0), 0)
                  for one in (hierfavg(edges=2, kappa2=2), algorithm))
  for number, more in enumerate([0, 5, 5, 10, 10]):
    assert known.end(number) == pytest.approx(plain.end(number) + more)


@pytest.mark.slow
def test_a_failed_round_is_none_of_the_cloud_s():
  """Everybody is lost: models stay as they are, and nothing goes to the cloud.
  """
  devices = systems.identical(failures=systems.failures(before=1 - 1e-9))
  result = simulate(
      MODEL, hierfavg(edges=2, kappa2=1, cloud_seconds=1e6), DATA, rounds=2,
      client_fraction=1.0, systems=devices)
  assert [r['bytes_edge_up'] for r in result.records] == [0, 0]
  assert result.records[-1]['simulated_seconds'] < 1e6
  assert not flat(result.state.server.variables.params).any()


@pytest.mark.parametrize('options, message', [
    ({'edges': 0, 'kappa2': 1}, 'edges'),
    ({'edges': 2, 'kappa2': 0}, 'kappa2'),
    ({'edges': 2, 'kappa2': 1, 'assign': 'by_name'}, 'assign'),
    ({'edges': 9, 'kappa2': 1, 'num_clients': 5}, 'edges must be at most 5'),
    ({'edges': 2, 'kappa2': 1, 'assign': 'random'}, 'needs num_clients'),
    ({'edges': [0, 2], 'kappa2': 1}, 'none of edge 1'),
    ({'edges': [0.5, 1], 'kappa2': 1}, 'edges must be a number'),
    ({'edges': [0, 1], 'kappa2': 1, 'num_clients': 5},
     'edges must list the edge of each of 5 clients, got 2'),
    ({'edges': 2, 'kappa2': 1, 'edge_seed': 3}, 'edge_seed must be left out'),
    ({'edges': 2, 'kappa2': 1, 'edge_seed': -1}, 'edge_seed must be .* from 0'),
    ({'edges': [0, 1], 'kappa2': 1, 'assign': 'random'}, 'assign must be left'),
])
def test_bad_arguments(options, message):
  with pytest.raises(ValueError, match=message):
    hierfavg(**options)


def test_time_of_the_cloud_where_there_is_none_is_refused():
  with pytest.raises(ValueError, match='cloud_seconds without systems'):
    simulate(MODEL, hierfavg(edges=2, kappa2=1, cloud_seconds=5.0), DATA,
             rounds=1, client_fraction=1.0)


def test_edges_of_other_clients_are_refused():
  with pytest.raises(ValueError, match='made for num_clients = 2, .* has 5'):
    simulate(MODEL, hierfavg(edges=[0, 1], kappa2=1), DATA, rounds=1,
             client_fraction=1.0)
