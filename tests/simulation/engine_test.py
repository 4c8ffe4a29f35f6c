import functools

import jax
import numpy as np
import optax
import pytest
from jax import numpy as jnp

from fedjax_sim import DivergenceError, algorithms
from fedjax_sim.data import sampling
from fedjax_sim.data.federated import federate
from fedjax_sim.experiment import simulate as simulate_lib
from fedjax_sim.models import losses
from fedjax_sim.simulation import evaluation, traffic
from tests import numpy_fedavg, toys

MODEL = toys.softmax_model()
SIZES = [1, 37, 10, 20, 5, 11, 30, 2, 19]


def run(data, *, rounds=3, lanes=4, model=MODEL, cohort=6, dispatch=None,
        algorithm=None, seed=0, **kwargs):
  algorithm = algorithm or algorithms.fedavg(
      model, optax.sgd(0.1), epochs=2, batch_size=10, **kwargs)
  return simulate_lib.simulate(
      model, algorithm, data, rounds=rounds, clients_per_round=cohort,
      lanes=lanes, rounds_per_dispatch=dispatch, seed=seed)


@functools.cache
def plain(**options):
  return run(toys.softmax_data(SIZES), **options)


@functools.cache
def initial_params():
  """Of a server that makes no step."""
  return run(toys.softmax_data(SIZES), rounds=1, algorithm=algorithms.fedavg(
      MODEL, optax.sgd(0.1), optax.sgd(0.0))).variables.params


@pytest.mark.parametrize('weighting', ['examples', 'uniform'])
def test_agrees_with_numpy_on_unequal_clients(weighting):
  data, initial = toys.softmax_data(SIZES), initial_params()
  clients = [(c['x'], c['y']) for c in map(data.client, range(len(SIZES)))]
  sampler = sampling.uniform(len(SIZES), 6, 0)
  w, b = numpy_fedavg.fedavg(
      np.asarray(initial['w']), np.asarray(initial['b']), clients,
      [sampler.sample(t) for t in range(3)], toys.order_of_client(0, SIZES),
      epochs=2, batch_size=10, lr=0.1, weighting=weighting)
  got = run(data, weighting=weighting).variables.params
  np.testing.assert_allclose(got['w'], w, atol=1e-5)
  np.testing.assert_allclose(got['b'], b, atol=1e-5)


@pytest.mark.parametrize('lanes', [1, 3, 6])
def test_lanes_and_blocks_do_not_matter(lanes):
  want, got = plain(), plain(lanes=lanes)
  assert_close(got.variables.params, want.variables.params, 1e-6)
  for a, b in zip(got.records, want.records, strict=True):
    assert a['train/loss'] == pytest.approx(b['train/loss'], rel=1e-5)


@pytest.mark.bits
def test_rounds_per_dispatch_do_not_change_a_bit():
  data = toys.softmax_data(SIZES)
  algorithm = algorithms.fedavg(
      MODEL, optax.sgd(0.1), epochs=2, batch_size=10)
  results = [run(data, rounds=7, dispatch=d, algorithm=algorithm)
             for d in (1, 2, 5, None)]
  for other in results[1:]:
    jax.tree.map(np.testing.assert_array_equal, results[0].state, other.state)


def test_order_of_clients_does_not_matter(monkeypatch):
  want, original = plain(), sampling.uniform
  def backwards(*args):
    sampler = original(*args)
    return sampler._replace(sample=lambda r: sampler.sample(r)[::-1])
  monkeypatch.setattr(sampling, 'uniform', backwards)
  assert_close(run(toys.softmax_data(SIZES)).variables.params,
               want.variables.params, 1e-6)


def test_other_clients_data_and_padding_do_not_leak():
  """Examples of clients outside of the cohort are 1e6, which would show."""
  sizes = [13, 7, 9, 21]
  sampler = sampling.uniform(4, 2, 0)
  outside = [k for k in range(4) if k not in sampler.sample(0)]
  data = toys.softmax_data(sizes)
  spoilt = data.examples['x'].copy()
  for k in outside:
    spoilt[data.offsets[k]:data.offsets[k + 1]] = 1e6
  wrong = federate({'x': spoilt, 'y': data.examples['y']},
                   toys.partition_of(sizes))
  for lanes in (1, 2):
    want = run(data, rounds=1, cohort=2, lanes=lanes)
    got = run(wrong, rounds=1, cohort=2, lanes=lanes)
    jax.tree.map(np.testing.assert_array_equal, got.state.server,
                 want.state.server)


def test_a_masked_row_of_any_value_does_not_count():
  model = MODEL._replace(apply=lambda p, s, x, *, mask, **kw: MODEL.apply(
      p, s, jnp.where(mask[:, None], x, 1e6), mask=mask, **kw))
  data = toys.softmax_data(SIZES)
  assert_close(run(data, model=model).variables.params,
               plain().variables.params, 1e-6)


def test_an_absent_client_may_hold_nan():
  """Empty slots run on client 0's state; NaN there must not reach the mean."""
  data = toys.softmax_data([2, 3, 4, 5], seed=1)
  def client(server, state, own, key):
    output = base.client(server, state, own, key)
    poison = jnp.where(own.size == 0, jnp.nan, 0.0)
    update = jax.tree.map(lambda u: u + poison, output.message.update)
    return output._replace(message=output.message._replace(update=update))
  base = algorithms.fedavg(MODEL, optax.sgd(0.1))
  algorithm = base._replace(client=client)
  state = toys.run_cohorts(MODEL, algorithm, data, [[3, 1, 2]] * 2)
  assert all(np.isfinite(x).all()
             for x in jax.tree.leaves(state.server.variables))


def test_a_client_drawn_twice_draws_anew():
  """With replacement, the second occurrence has an order of its own."""
  data = toys.softmax_data([30, 30])
  def weights(cohort):
    state = toys.run_cohorts(
        MODEL, algorithms.fedavg(MODEL, optax.sgd(0.5)), data, [cohort])
    return np.asarray(state.server.variables.params['w'])
  once, twice = weights([1]), weights([1, 1])
  assert 1e-6 < np.abs(once - twice).max() < 0.5


def test_second_call_does_not_compile_again():
  data = toys.softmax_data(SIZES)
  traced = []
  def apply(*args, **kwargs):
    traced.append(1)
    return MODEL.apply(*args, **kwargs)
  run(data, rounds=12, dispatch=1, model=MODEL._replace(apply=apply))
  few = len(traced)
  traced.clear()
  run(data, rounds=2, dispatch=1, model=MODEL._replace(apply=apply))
  # It is looked at what the model does, and no round is traced again.
  assert len(traced) < few


def test_evaluation_flags_and_rows():
  data = toys.softmax_data(SIZES)
  test = toys.softmax_data([55], seed=0).examples
  result = simulate_lib.simulate(
      MODEL, algorithms.fedavg(MODEL, optax.sgd(0.1)), data, rounds=7,
      client_fraction=1.0, test=test, eval_every=3)
  evaluated = [r['round'] for r in result.records if 'test/accuracy' in r]
  assert evaluated == [0, 3, 6, 7]
  assert [r['round'] for r in result.records] == list(range(8))
  # Every example counts once: 55 is no multiple of anything padded.
  params = jax.device_get(result.variables.params)
  right = (test['x'] @ params['w'] + params['b']).argmax(1) == test['y']
  assert result.records[-1]['test/accuracy'] == pytest.approx(right.mean())


def test_named_evaluation_sets_are_in_the_records():
  sets = {name: toys.softmax_data([20], seed=i).examples
          for i, name in enumerate(('test', 'backdoor', 'edge'), 1)}
  algorithm = algorithms.fedavg(MODEL, optax.sgd(0.1))
  result = simulate_lib.simulate(
      MODEL, algorithm, toys.softmax_data(SIZES), rounds=2, eval_every=2,
      client_fraction=1.0, devices=1, lanes=2, test=sets.pop('test'),
      more_sets=sets)
  initial, first, last = result.records
  assert 'backdoor/loss' in initial and 'backdoor/loss' not in first
  for name, examples in sets.items():
    want = evaluation.evaluate(MODEL, result.variables, examples)
    for metric, value in want.items():
      assert last[f'{name}/{metric}'] == pytest.approx(value, rel=1e-5)
  with pytest.raises(ValueError, match='other names than train and test'):
    simulate_lib.simulate(
        MODEL, algorithm, toys.softmax_data(SIZES), rounds=1,
        client_fraction=1.0, more_sets={'train': None})


def test_a_client_receives_its_part_of_a_broadcast():
  """Clients of even and odd numbers get models that are 1 and 2 ahead."""
  model = toys.quadratic_model()
  data = toys.points_data([np.zeros((1, 2))] * 4)
  base = algorithms.fedavg(model, optax.sgd(1.0))

  def ahead(state, by):
    return base.broadcast(state)._replace(variables=jax.tree.map(
        lambda x: x + by, state.variables))

  algorithm = base._replace(
      broadcast=lambda state: jax.tree.map(
          lambda *x: jnp.stack(x), ahead(state, 1.0), ahead(state, 2.0)),
      receive=lambda message, slot, key: jax.tree.map(
          lambda x: x[slot.client % 2], message))
  # A step of rate 1 leads to the client's point: the update is minus the start.
  state = toys.run_cohorts(model, algorithm, data, [[0, 1, 3], [2]])
  want = -(1 + 2 + 2) / 3
  want = want - (want + 1)
  np.testing.assert_allclose(
      state.server.variables.params['w'], [want] * 2, rtol=1e-6)
  down = traffic.per_client(
      algorithm, data.examples, model.init(None, None)).down
  assert down == 4 + 2 * 4


def test_divergence_names_round_and_clients():
  data = toys.softmax_data(SIZES)
  with pytest.raises(DivergenceError) as caught:
    run(data, rounds=50, algorithm=algorithms.fedavg(
        MODEL, optax.sgd(1e38), batch_size=10))
  sampler = sampling.uniform(len(SIZES), 6, 0)
  error = caught.value
  assert set(error.clients) <= {
      str(k) for k in sampler.sample(error.round - 1)}
  assert error.records == []  # The first dispatch is a round.


def test_labels_beyond_the_classes_are_refused():
  data = toys.softmax_data(SIZES, num_classes=5)
  with pytest.raises(ValueError, match=r"train\['y'\] must be classes from 0"):
    run(data, model=MODEL._replace(loss=losses.cross_entropy))


def assert_close(got, want, tolerance):
  jax.tree.map(lambda a, b: np.testing.assert_allclose(
      a, b, atol=tolerance, rtol=tolerance), got, want)
