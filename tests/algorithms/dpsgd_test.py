import jax
import numpy as np
import optax
import pytest
from jax import numpy as jnp

from fedjax_sim import algorithms, data, simulate, systems, topologies
from fedjax_sim.core import mixing
from fedjax_sim.data import sampling
from fedjax_sim.data.federated import federate
from fedjax_sim.simulation import build as build_lib
from fedjax_sim.simulation.drive import drive
from tests import toys

MODEL = toys.linear_model()
SIZES = [2, 5, 3, 4, 6, 3]
N, RATE, STEPS = 6, 0.1, 2


def regression(sizes=SIZES):
  rng = np.random.default_rng(0)
  x = rng.normal(size=(sum(sizes), 3)).astype(np.float32)
  y = (x @ [1, -2, 0.5] + rng.normal(size=len(x))).astype(np.float32)
  return federate({'x': x, 'y': y}, toys.partition_of(sizes),
                  allow_empty=True)


DATA = regression()


def dpsgd(graph, rate=RATE, **options):
  return algorithms.dpsgd(MODEL, optax.sgd(rate), graph=graph,
                          **{'steps': STEPS, 'batch_size': None} | options)


def run(algorithm, cohorts, data=DATA, clients=None, devices=1):
  """The state after rounds, and their records."""
  sampler = sampling.Sampler(lambda r: np.array(cohorts[r]), N, N)
  simulation = build_lib.build(
      MODEL, algorithm, data, sampler, lanes=2, devices=devices)
  state = simulation.init()
  if clients is not None:
    state = state._replace(clients=state.clients._replace(
        model=state.clients.model._replace(params=clients)))
  *_, last = drive(simulation, state, len(cohorts),
                   rounds_per_dispatch=len(cohorts))
  return jax.device_get(last.state), last.records[0]


def flat(params):
  return np.concatenate(
      [np.asarray(params['w']), np.asarray(params['b'])[..., None]], -1)


def models_of(state):
  return flat(state.clients.model.params)


def by_hand(weights, cohorts, data=DATA):
  """Models [N, 4], one client after the other; who rests keeps its own."""
  models = np.zeros((N, 4))
  for cohort in cohorts:
    for k in cohort:
      own = data.client(k)
      x = np.c_[own['x'], np.ones(len(own['y']))]
      for _ in range(STEPS):
        models[k] -= RATE * x.T @ (x @ models[k] - own['y']) / len(x)
    before = models.copy()
    for i in cohort:
      for j in cohort:
        models[i] += weights[i, j] * (before[j] - before[i])
  return models


@pytest.mark.parametrize('graph', [topologies.ring(), *(
    pytest.param(graph, marks=pytest.mark.slow) for graph in (
        topologies.star(), topologies.random_regular(3)))])
def test_rounds_by_hand(graph):
  cohorts = [range(N), [0, 1, 2, 5], [3], range(N)]
  state, records = run(dpsgd(graph), cohorts)
  weights = mixing.matrix(graph, N)
  models = by_hand(weights, cohorts)
  np.testing.assert_allclose(models_of(state), models, atol=1e-6)
  # The server follows their mean.
  np.testing.assert_allclose(
      flat(state.server.variables.params), models.mean(0), atol=1e-6)
  distance = np.sqrt(np.square(models - models.mean(0)).sum(1).mean())
  assert records[-1]['consensus/distance'] == pytest.approx(distance, rel=1e-5)
  linked = mixing.links(weights)
  assert [r['consensus/messages'] for r in records] == [
      linked[np.ix_(cohort, cohort)].sum() for cohort in map(list, cohorts)]


def test_who_has_no_examples_rests():
  data = regression([2, 5, 0, 4, 6, 3])
  with_data = [0, 1, 3, 4, 5]
  state, records = run(dpsgd(topologies.ring()), [range(N)] * 3, data)
  models = by_hand(
      mixing.matrix(topologies.ring(), N), [with_data] * 3, data)
  np.testing.assert_allclose(models_of(state), models, atol=1e-6)
  np.testing.assert_allclose(flat(state.server.variables.params),
                             models[with_data].mean(0), atol=1e-6)
  assert records[0]['consensus/messages'] == 2 * N - 4


@pytest.mark.parametrize('devices', [
    pytest.param(1, marks=pytest.mark.slow), 3])
def test_with_the_complete_graph_it_is_fedavg_of_all_clients(devices):
  """With equal weights; to rounding, as the mean is taken in another order."""
  training = {'epochs': 2, 'batch_size': 2}
  got, records = run(dpsgd(topologies.complete(), **training, steps=None),
                     [range(N)] * 4, devices=devices)
  want, _ = run(algorithms.fedavg(
      MODEL, optax.sgd(RATE), weighting='uniform', **training),
      [range(N)] * 4, devices=devices)
  want = flat(want.server.variables.params)
  np.testing.assert_allclose(
      flat(got.server.variables.params), want, rtol=1e-6, atol=1e-6)
  for model in models_of(got):
    np.testing.assert_allclose(model, want, rtol=1e-6, atol=1e-6)
  assert records[-1]['consensus/distance'] < 1e-6
  assert records[-1]['consensus/spectral_gap'] == pytest.approx(1)


def averaged(graph, start, rounds=6):
  """The distances from consensus after rounds of averages alone."""
  params = {'w': jnp.asarray(start[:, :3], jnp.float32),
            'b': jnp.asarray(start[:, 3], jnp.float32)}
  state, records = run(dpsgd(graph, rate=1e-30), [range(N)] * rounds,
                       clients=params)
  np.testing.assert_allclose(
      models_of(state).mean(0), start.mean(0), atol=1e-6)
  first = np.sqrt(np.square(start - start.mean(0)).sum(1).mean())
  return np.array([first, *(r['consensus/distance'] for r in records)])


@pytest.mark.parametrize('graph', [topologies.ring(), *(
    pytest.param(graph, marks=pytest.mark.slow) for graph in (
        topologies.star(), topologies.torus()))])
def test_averages_alone_come_nearer_by_the_second_eigenvalue(graph):
  weights = mixing.matrix(graph, N)
  values, vectors = np.linalg.eigh(weights)
  second = np.argsort(np.abs(values))[-2]
  factor = 1 - mixing.spectral_gap(weights)
  np.testing.assert_allclose(factor, abs(values[second]))
  assert 0.1 < factor < 0.95
  # Along its eigenvector by this very factor,
  along = 1 + np.outer(vectors[:, second], [3.0, -1, 2, 5])
  distances = averaged(graph, along)
  np.testing.assert_allclose(distances[1:] / distances[:-1], factor, rtol=1e-4)
  # from anywhere by no larger one, and by a smaller one at first.
  distances = averaged(
      graph, np.random.default_rng(1).normal(size=(N, 4)))
  shrunk = distances[1:] / distances[:-1]
  assert (shrunk < factor * (1 + 1e-4)).all() and shrunk[0] < 0.98 * factor


def test_each_edge_carries_a_model_each_way():
  size = 4 * 4
  records = simulate(
      MODEL, dpsgd(topologies.ring(), batch_size=2), DATA, rounds=2,
      client_fraction=1.0, systems=systems.identical(
          step_seconds=0.5, down_bps=8, up_bps=8)).records
  for record in records:
    assert record['bytes_up'] == record['bytes_down'] == 2 * N * size
    # Two neighbours: two models down, two steps, two models up, one by one.
    assert record['duration'] == 2 * size + STEPS * 0.5 + 2 * size


def test_a_client_is_evaluated_with_its_own_model():
  algorithm = dpsgd(topologies.ring())
  state, _ = run(algorithm, [range(N)] * 2)
  own = toys.personal_models(algorithm, state, DATA)
  np.testing.assert_array_equal(
      np.stack([flat(v.params) for v in own]), models_of(state))
  assert np.ptp(models_of(state), axis=0).min() > 1e-3


@pytest.mark.parametrize('options, message', [
    ({'clients_per_round': 3}, 'client_fraction must be 1 .* of 3 of 6'),
    ({'client_fraction': 1.0, 'client_state': 'stored'},
     "client_state must be 'device'"),
    ({'client_fraction': 1.0, 'systems': systems.identical(
        failures=systems.failures(training=0.1))}, 'systems must not lose'),
    ({'client_fraction': 1.0, 'sampler': 'by_size'},
     "sampler must be 'uniform' where clients gossip"),
    ({'sampler': data.oort(DATA.sizes, N, 0)}, "sampler must be 'uniform'"),
])
def test_what_does_not_fit_a_graph_is_refused(options, message):
  with pytest.raises(ValueError, match=message):
    simulate(MODEL, dpsgd(topologies.ring()), DATA, rounds=1, **options)


def test_a_graph_of_other_clients_is_refused():
  with pytest.raises(ValueError, match='of all 6 clients, got those of 2'):
    simulate(MODEL, dpsgd(topologies.given([[0, 1], [1, 0]])), DATA, rounds=1,
             client_fraction=1.0)


@pytest.mark.slow
@pytest.mark.parametrize('algorithm', [
    dpsgd(topologies.ring()),
    algorithms.hierfavg(MODEL, optax.sgd(RATE), edges=2, kappa2=2)])
def test_a_run_goes_on_to_the_same_bits(algorithm, tmp_path):
  options = {'client_fraction': 1.0, 'devices': 2, 'lanes': 1,
             'test': DATA.examples}
  whole = simulate(MODEL, algorithm, DATA, rounds=3, **options)
  for rounds in (1, 3):
    parts = simulate(MODEL, algorithm, DATA, rounds=rounds,
                     workdir=tmp_path / 'run', **options)
  jax.tree.map(np.testing.assert_array_equal,
               jax.device_get(parts.state), jax.device_get(whole.state))
  told = [[{k: v for k, v in record.items() if k != 'seconds'}
           for record in one.records] for one in (parts, whole)]
  assert told[0] == told[1]
