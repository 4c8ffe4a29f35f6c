"""Every algorithm with parts that change means: right, or refused.

Clients have as many examples as each other and cohorts one size, so that a mean
over a fixed number is the weighted one.
"""

import jax
import numpy as np
import optax
import pytest
from jax import numpy as jnp

from fedjax_sim import aggregation, algorithms
from fedjax_sim.aggregation import tally
from fedjax_sim.core.types import Aggregate, Message
from tests import toys
from tests.algorithms.cases import AGGREGATED, with_aggregator

MODEL = toys.softmax_model()
DATA = toys.softmax_data([6, 6, 6, 6])
COHORTS = [[0, 3], [1, 3], [2, 0]]

TRACKED = {'scaffold', 'feddyn'}
WEIGHED = {'agnostic_fedavg', 'q_fedavg', 'fedexp'}
GROUPED = {'ifca', 'hierfavg'}  # Only when run, of their messages.
PARTS = {
    'ef21': (lambda: aggregation.aggregator(aggregation.ef21(
        aggregation.identity())), TRACKED | {
            'fedasync', 'fedbuff', 'fedexp'}),
    'error_feedback': (lambda: aggregation.aggregator(
        aggregation.error_feedback(aggregation.top_k(1.0))), set()),
    'rotate': (lambda: aggregation.aggregator(aggregation.rotate()), set()),
    'top_k': (lambda: aggregation.aggregator(aggregation.top_k(1.0)), TRACKED),
    'random_k': (lambda: aggregation.aggregator(
        aggregation.random_k(1.0)), TRACKED),
    'cast': (lambda: aggregation.aggregator(aggregation.cast()), TRACKED),
    'clip': (lambda: aggregation.aggregator(
        aggregation.rotate(), aggregation.clip(1e6)), TRACKED),
    'fixed_mean': (lambda: aggregation.aggregator(
        reduce=aggregation.fixed_mean(2)), WEIGHED),
    'median': (lambda: aggregation.aggregator(
        reduce=aggregation.median()), TRACKED | WEIGHED),
    'majority_vote': (lambda: aggregation.aggregator(
        reduce=aggregation.majority_vote()), TRACKED | WEIGHED),
    'trimmed_mean': (lambda: aggregation.aggregator(
        reduce=aggregation.trimmed_mean(0.1)), TRACKED | WEIGHED),
    'masked_mean': (aggregation.masked_mean, TRACKED | {'fedexp'}),
}


@pytest.mark.parametrize('part', PARTS)
def test_who_would_go_wrong_with_a_part_refuses_it(part):
  make, refusing = PARTS[part]
  for name in AGGREGATED:
    if name not in refusing:
      with_aggregator(name, MODEL, make())
      continue
    with pytest.raises(ValueError, match='(uplink|reduce) must ') as error:
      with_aggregator(name, MODEL, make())
    said = str(error.value)
    assert part in said and (
        name in said or name == 'fedbuff' and 'staleness' in said)
    assert any(text in said for text in (
        'weighted_mean()', 'error_feedback(top_k(0.01))', 'Leave it out.'))


@pytest.mark.parametrize('build', [
    lambda **given: algorithms.scaffold(MODEL, 0.1, **given),
    lambda **given: algorithms.feddyn(
        MODEL, optax.sgd(0.1), alpha=0.5, **given)], ids=['scaffold', 'feddyn'])
def test_weights_that_a_mean_leaves_out_are_refused(build):
  fixed = aggregation.aggregator(reduce=aggregation.fixed_mean(2))
  build(aggregator=fixed)
  build(aggregator=fixed, weighting='uniform')
  with pytest.raises(ValueError, match='reduce must be weighted_mean()'):
    build(aggregator=fixed, weighting='examples')


def remembering():
  """EF21 without loss, on a server that keeps the last message of everyone."""
  def initial(message: Message, num_clients, key):
    return jax.tree.map(lambda x: jnp.zeros((num_clients, *x.shape)),
                        (message.update, message.weight))

  def run(messages: Message, state, broadcast, key):
    last, weights = jax.tree.map(
        lambda rows, x: rows.at[messages.slot.client].set(x), state,
        (messages.update, messages.weight))
    mean = jax.tree.map(
        lambda x: jnp.tensordot(weights, x, 1) / weights.sum(), last)
    cohort = tally.add(tally.init(jax.tree.map(lambda x: x[0], messages)),
                       messages)
    return Aggregate(mean, cohort.weight, weights.sum(), cohort.count,
                     cohort.sums), (last, weights), {}

  return aggregation.aggregator(reduce=aggregation.buffered(aggregation.Stage(
      'remembering', run, initial, weighs=True)))


def slow_but(quick, cases):
  return [case if case in quick else pytest.param(
      *([case] if isinstance(case, str) else case), marks=pytest.mark.slow)
          for case in cases]


def model_after(name, aggregator):
  state = toys.run_cohorts(
      MODEL, with_aggregator(name, MODEL, aggregator), DATA, COHORTS, lanes=1)
  return jax.device_get(state.server.variables)


def assert_equal(got, want):
  jax.tree.map(lambda a, b: np.testing.assert_allclose(
      a, b, rtol=1e-4, atol=2e-5), got, want)


@pytest.mark.parametrize('name', slow_but(['q_fedavg'], sorted(
    set(AGGREGATED) - PARTS['ef21'][1] - GROUPED)))
def test_ef21_is_the_mean_of_what_everybody_said_last(name):
  assert_equal(model_after(name, PARTS['ef21'][0]()),
               model_after(name, remembering()))


@pytest.mark.parametrize('name, part', slow_but(
    [('fedexp', 'top_k'), ('scaffold', 'fixed_mean')],
    [(name, part) for part in ('error_feedback', 'top_k', 'fixed_mean')
     for name in AGGREGATED if name not in PARTS[part][1]
     # Of a group there are not always two.
     and (part != 'fixed_mean' or name not in GROUPED)]))
def test_parts_that_lose_nothing_change_nothing(name, part):
  assert_equal(model_after(name, PARTS[part][0]()), model_after(name, None))


def test_fednova_with_equal_steps_is_fedavg_also_with_ef21():
  part = PARTS['ef21'][0]
  after = lambda algorithm: jax.device_get(toys.run_cohorts(
      MODEL, algorithm, DATA, COHORTS, lanes=1).server.variables)
  assert_equal(
      after(algorithms.fednova(MODEL, 0.1, steps=3, aggregator=part())),
      after(algorithms.fedavg(
          MODEL, optax.sgd(0.1), steps=3, aggregator=part())))


@pytest.mark.parametrize('build', [
    pytest.param(lambda aggregator: algorithms.scaffold(
        toys.curved_model(), 0.05, steps=4, batch_size=2,
        aggregator=aggregator), id='scaffold'),
    pytest.param(lambda aggregator: algorithms.feddyn(
        toys.curved_model(), optax.sgd(0.05), alpha=5.0, steps=4, batch_size=2,
        aggregator=aggregator), id='feddyn', marks=pytest.mark.slow)])
def test_what_is_sent_later_ends_at_the_optimum(build):
  """Of the entries of an update one travels in each round."""
  part = aggregation.error_feedback(aggregation.top_k(k=1))
  state = toys.run_cohorts(
      toys.curved_model(), build(aggregation.aggregator(part)),
      toys.curved_data(), [[0, 1], [2], [1, 2], [0, 2]] * 100, lanes=1)
  np.testing.assert_allclose(state.server.variables.params['w'],
                             toys.curved_optimum(), atol=1e-3)
