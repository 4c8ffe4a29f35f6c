"""FedBuff, FedAsync, and others whose clients began with older models."""

import warnings

import jax
import numpy as np
import optax
import pytest
from jax import numpy as jnp

import fedjax_sim
from configs import default
from fedjax_sim import aggregation, algorithms, systems
from fedjax_sim.aggregation import staleness
from fedjax_sim.aggregation.chain import nobody
from fedjax_sim.core.types import Message
from fedjax_sim.data import sampling
from fedjax_sim.experiment import build_algorithm, closing_time
from fedjax_sim.simulation import asynchronous, in_time
from fedjax_sim.simulation.placement import device_memory
from tests import numpy_asynchronous, toys

MODEL = toys.softmax_model()
SGD = optax.sgd(0.1)
SIZES = (5, 8, 3, 9, 4, 7, 2, 6, 8, 1, 4, 0)
DATA = toys.softmax_data(SIZES)
ALIKE = toys.softmax_data([6] * 12)
LATE = {'systems': systems.lognormal(speed_ratio=30.0),
        'reporting': systems.asynchronous(6, max_lag=4)}


def run(algorithm, data=DATA, rounds=8, clients_per_round=3, **options):
  return fedjax_sim.simulate(
      options.pop('model', MODEL), algorithm, data, rounds=rounds,
      clients_per_round=clients_per_round,
      **{'devices': 1, 'lanes': 2} | LATE | options)


def fedbuff(**options):
  return algorithms.fedbuff(
      MODEL, optax.sgd(0.1), optax.sgd(1.0, momentum=0.5), batch_size=2,
      **options)


def assert_equal(got, want):
  jax.tree.map(np.testing.assert_array_equal, got, want)


def assert_close(got, want, atol=1e-6):
  jax.tree.map(
      lambda a, b: np.testing.assert_allclose(a, b, atol=atol), got, want)


def test_fedbuff_without_lag_is_fedavg_to_the_bit():
  """Given the same weighting."""
  alike = systems.identical()
  got = run(fedbuff(), ALIKE, rounds=4, systems=alike,
            reporting=systems.asynchronous(3))
  want = run(algorithms.fedavg(
      MODEL, optax.sgd(0.1), optax.sgd(1.0, momentum=0.5), batch_size=2,
      weighting='uniform'), ALIKE, rounds=4, systems=alike, reporting=None)
  assert_equal(got.variables, want.variables)
  assert [r['lag/max'] for r in got.records] == [0] * 4
  for name in ('train/loss', 'simulated_seconds', 'bytes_up', 'bytes_down'):
    assert [r[name] for r in got.records] == [r[name] for r in want.records]


LINEAR = toys.linear_model()
RATE, EPOCHS = 0.1, 3


def linear_data():
  rng = np.random.default_rng(0)
  x = rng.normal(size=(sum(SIZES[:-1]), 3)).astype(np.float32)
  y = (x @ rng.normal(size=3) + rng.normal(size=len(x))).astype(np.float32)
  return fedjax_sim.data.federate(
      {'x': x, 'y': y}, toys.partition_of(SIZES[:-1]))


def reference(data, wanted, step, rho=0.0, sent=lambda model: model):
  """`numpy_asynchronous.run` on linear regression by full gradients."""
  count = data.num_clients
  profiles = LATE['systems'].make(count, 0)
  # Beside the model the round's number comes down, and a weight goes up.
  bits = 32 * (4 + 1)
  seconds = (bits / profiles.down_bps + data.sizes * EPOCHS
             * profiles.step_seconds + bits / profiles.up_bps)

  def train(client, model):
    start = sent(model)
    rows = slice(data.offsets[client], data.offsets[client + 1])
    x = np.c_[data.examples['x'][rows], np.ones(data.sizes[client])]
    own = start.copy()
    for _ in range(EPOCHS):
      error = x @ own - data.examples['y'][rows]
      own -= RATE * (x.T @ error / len(x) + rho * (own - start))
    return start, own

  return numpy_asynchronous.run(
      12, seconds=seconds, choose=sampling.uniform(count, wanted, 0).among,
      wanted=wanted, concurrency=6, max_lag=4, model=np.zeros(4), train=train,
      step=step)


def halved():
  """Sends a half of what it is given."""
  return aggregation.transform(
      'halved', client=lambda message, state, memory, keys, cohort: (
          message._replace(
              update=jax.tree.map(lambda x: x / 2, message.update)), memory))


def linear(variables):
  return np.append(variables.params['w'], variables.params['b'])


def check_against(want, algorithm, data, wanted):
  result = run(algorithm, data, rounds=len(want), clients_per_round=wanted,
               model=LINEAR)
  np.testing.assert_allclose(
      linear(result.variables), want[-1]['model'], atol=1e-6)
  for record, expected in zip(result.records, want, strict=True):
    assert record['lag/max'] == max(expected['lag'])
    assert record['lag/mean'] == pytest.approx(np.mean(expected['lag']))
    assert record['simulated_seconds'] == pytest.approx(expected['end'])
    assert record['discarded'] == expected['discarded']
  assert max(record['lag/max'] for record in result.records) >= 2


OPTIONS = {'batch_size': None, 'epochs': EPOCHS}


@pytest.mark.parametrize('down', [False, True])
def test_fedbuff_is_a_slow_reference(down):
  """The versions that clients began with are those that they were sent."""
  data = linear_data()

  def step(model, reports):
    deltas = [(own - start) / np.sqrt(1 + lag)
              for (start, own), lag in reports]
    return model + 0.7 * np.sum(deltas, axis=0) / len(deltas)

  want = reference(data, 3, step, sent=(
      (lambda model: model / 2) if down else (lambda model: model)))
  parts = [aggregation.downlink(halved())] if down else []
  check_against(want, algorithms.fedbuff(
      LINEAR, optax.sgd(RATE), optax.sgd(0.7),
      aggregator=aggregation.aggregator(*parts), **OPTIONS), data, 3)


def test_fedasync_is_a_slow_reference(monkeypatch):
  """One of 13 reports is discarded, of which more than 5% are warned of."""
  monkeypatch.setattr(closing_time, '_MANY_DISCARDED', 0.05)
  data, alpha, rho = linear_data(), 0.6, 0.5

  def step(model, reports):
    ((_, own), lag), = reports
    share = alpha * (1.0 if lag <= 1 else 1 / (1 + 2.0 * (lag - 1)))
    return (1 - share) * model + share * own

  with pytest.warns(UserWarning, match='8% of the reports were discarded'):
    check_against(reference(data, 1, step, rho=rho), algorithms.fedasync(
        LINEAR, optax.sgd(RATE), alpha=alpha, rho=rho,
        staleness=staleness.hinge(2.0, 1.0), **OPTIONS), data, 1)


def test_staleness_is_one_for_who_is_not_late_and_falls():
  lags = np.arange(8)
  for made, want in (
      (staleness.constant(), np.ones(8)),
      (staleness.polynomial(0.7), (1.0 + lags) ** -0.7),
      (staleness.hinge(3.0, 4.0), [
          1.0 if lag <= 4 else 1 / (3 * (lag - 4) + 1) for lag in lags])):
    np.testing.assert_allclose(made.factor(lags), want, rtol=1e-6)
    assert float(made.factor(0)) == 1.0


def test_a_config_names_the_staleness_by_which_updates_are_discounted():
  """A mean over the weights of all, of which late ones have less to say."""
  config = default.get_config()
  config.update(algorithm='fedbuff(staleness=polynomial(0.3))')
  reducer = build_algorithm.make_algorithm(
      config, MODEL, num_clients=12, numbers={'algorithm.staleness.a': 0.7},
  ).aggregator.reducer
  lags, weights = np.array([0, 3, 1, 0]), np.array([1.0, 2.0, 3.0, 9.0])
  updates = np.random.default_rng(0).normal(size=(4, 5)).astype(np.float32)
  messages = Message(
      updates, jnp.float32(weights), jnp.arange(4) < 3,
      slot=nobody(4)._replace(lag=jnp.int32(lags)))
  one = jax.tree.map(lambda x: x[0], messages)
  aggregate, *_ = reducer.finalize(
      reducer.accumulate(reducer.init(one, 4), messages), (), None, None)
  want = (weights * (1.0 + lags) ** -0.7)[:3] @ updates[:3] / 6.0
  np.testing.assert_allclose(aggregate.mean, want, rtol=1e-5)
  assert aggregate.weight == 6.0


def lossy_fedavg():
  """With a memory of each client, so that nobody may report twice."""
  parts = (aggregation.downlink(aggregation.quantize(8)),
           aggregation.error_feedback(aggregation.top_k(0.4)))
  return algorithms.fedavg(MODEL, optax.sgd(0.1), batch_size=2,
                           aggregator=aggregation.aggregator(*parts))


@pytest.mark.slow
def test_bytes_down_are_those_of_whom_begin():
  """Also where a coder's bits vary: each begins with the newest version."""
  coded = aggregation.aggregator(
      aggregation.downlink(aggregation.quantize(4, coder='entropy')))
  algorithm = algorithms.fedavg(
      MODEL, optax.sgd(0.1), batch_size=2, aggregator=coded)
  result = run(algorithm, rounds=4)
  first = run(algorithm, rounds=1, systems=None, reporting=None).records[0]
  begun = [r['started'] for r in result.records]
  each = [r['bytes_down'] / r['started'] for r in result.records]
  assert begun[0] > 3 and len(set(each)) > 1
  assert each[0] == first['bytes_down'] / first['clients']


@pytest.mark.slow
def test_devices_and_lanes_do_not_matter_with_memories_and_a_downlink():
  want = run(lossy_fedavg(), record_cohort=True)
  got = run(lossy_fedavg(), devices=2, lanes=1, examples='owned')
  assert_close(got.variables, want.variables, atol=1e-5)
  assert all(len(set(r['cohort'])) == 3 for r in want.records)
  assert max(r['lag/max'] for r in want.records) > 0


def test_a_run_that_goes_on_has_the_same_bits(tmp_path):
  options = {'checkpoint_seconds': 0.0, 'test': DATA.examples,
             'systems': systems.lognormal(
                 speed_ratio=30.0, failures=systems.failures(0.1, 0.1))}
  whole = run(fedbuff(), **options)
  run(fedbuff(), rounds=5, workdir=tmp_path, **options)
  rest = run(fedbuff(), resume_from=tmp_path, **options)
  assert_equal(rest.state.server, whole.state.server)
  assert_equal(rest.state.aggregator, whole.state.aggregator)
  told = lambda records: [
      {k: r[k] for k in ('round', 'simulated_seconds', 'lag/mean', 'lost')}
      for r in records if r['round'] > 5]
  assert told(rest.records) == told(whole.records)


@pytest.mark.slow
def test_members_of_a_sweep_are_runs_of_their_own():
  make = lambda rate: algorithms.fedasync(
      MODEL, optax.sgd(rate), alpha=0.5, batch_size=2)
  found = fedjax_sim.sweep(
      MODEL, make, DATA, seeds=[0, 1], learning_rates=[0.1, 0.2], rounds=6,
      clients_per_round=1, **LATE)
  alone = run(make(0.2), rounds=6, clients_per_round=1, seed=1, lanes=1)
  names = ('simulated_seconds', 'lag/max', 'discarded', 'bytes_up',
           'bytes_down', 'train/loss')
  for got, want in zip(found[1, 0.2].records, alone.records, strict=True):
    assert [got[n] for n in names] == pytest.approx([want[n] for n in names])
  assert any(a['lag/max'] != b['lag/max'] for a, b in zip(
      found[0, 0.2].records, alone.records, strict=True))


def sweep_of(**options):
  return fedjax_sim.sweep(
      MODEL, lambda rate: fedbuff(), DATA, rounds=1, clients_per_round=3,
      seeds=[0], learning_rates=[0.1], **options)


@pytest.mark.parametrize('start', [
    lambda **options: run(fedbuff(), **options), sweep_of])
def test_models_that_the_memory_can_not_hold_are_refused(monkeypatch, start):
  monkeypatch.setattr(device_memory, 'available', lambda device: 10 ** 6)
  with pytest.raises(ValueError, match='reporting: max_lag = 99999 must be'):
    start(**LATE | {'reporting': systems.asynchronous(6, max_lag=99999)})


@pytest.mark.parametrize('max_lag, warns', [(3, True), (4, False),
                                            (None, False)])
def test_a_max_lag_below_twice_the_mean_is_warned_of(max_lag, warns):
  """Of 5 / 3."""
  timed = in_time.Systems(
      LATE['systems'], systems.asynchronous(6, max_lag=max_lag))
  with warnings.catch_warnings(record=True) as told:
    warnings.simplefilter('always')
    asynchronous.check(fedbuff(), timed, 3)
  assert ['max_lag=3 discards many' in str(one.message) for one in told] == (
      [True] * warns)


@pytest.mark.parametrize('call, message', [
    (lambda: run(fedbuff(), reporting=None), 'fedbuff is asynchronous'),
    (lambda: run(fedbuff(), systems=None, reporting=None), 'needs systems'),
    (lambda: run(algorithms.fedasync(MODEL, SGD)), 'clients_per_round must be'),
    (lambda: run(algorithms.mime(MODEL, SGD, batch_size=2)),
     'exchange one message'),
    (lambda: run(algorithms.hierfavg(
        MODEL, SGD, edges=2, kappa2=2, num_clients=12)),
     'must have one server'),
    (lambda: run(fedbuff(), clients_per_round=7), 'concurrency must be at'),
    (lambda: fedbuff(staleness=0.5), 'staleness must be a Staleness'),
    (lambda: fedbuff(staleness=staleness.polynomial(0.0)), 'a must be'),
    (lambda: staleness.hinge(1.0, -1.0), 'b must be'),
    (lambda: algorithms.fedasync(MODEL, SGD, alpha=1.5), 'alpha must lie in'),
    (lambda: algorithms.fedasync(MODEL, SGD, proximal=1.0), 'proximal'),
    (lambda: run(fedbuff(aggregator=aggregation.masked_mean(1.0))),
     'aggregate: messages must be floats'),
    (sweep_of, 'fedbuff is asynchronous'),
])
def test_what_can_not_be_is_refused(call, message):
  with pytest.raises(ValueError, match=message):
    call()
