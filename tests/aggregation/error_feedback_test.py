"""Error feedback and EF21, over rounds, against what they keep and send."""

import jax
import numpy as np
import optax
import pytest
from jax import numpy as jnp

from fedjax_sim import aggregation, algorithms
from fedjax_sim.aggregation import ef21, error_feedback, quantize, top_k
from fedjax_sim.aggregation.chain import nobody
from fedjax_sim.core import trees
from fedjax_sim.core.types import Keys
from fedjax_sim.data import sampling
from fedjax_sim.simulation import build as build_lib
from fedjax_sim.simulation.drive import drive
from tests import toys
from tests.aggregation import sending

RNG = np.random.default_rng(0)


def updates(rounds):
  return [{'a': RNG.normal(size=(4, 50)).astype(np.float32),
           'b': RNG.normal(size=9).astype(np.float32)} for _ in range(rounds)]


@pytest.mark.parametrize('compressors', [
    (top_k(0.05),), (top_k(0.1), quantize(4)),
    (aggregation.rotate(), quantize(2))], ids=['top_k', 'both', 'rotated'])
def test_what_was_sent_and_what_is_kept_are_the_updates(compressors):
  part = error_feedback(*compressors)
  given = updates(6)

  @jax.jit
  def step(update, memory, number):
    keys = Keys(*(jax.random.fold_in(key, number) for key in sending.KEYS))
    message, memory = part.client(
        sending.message_of(update), state, memory, keys, nobody(1))
    return part.decode(message.update, state, keys.round, update), memory

  message = sending.message_of(given[0])
  state, memory = part.init(message, 1, sending.KEYS.round), (
      part.client_init(message))
  got, lost = trees.zeros(message.update), 0
  for i, update in enumerate(given):
    sent, memory = step(update, memory, i)
    got = trees.add(got, sent)
    lost += sum(np.abs(x).max() for x in jax.tree.leaves(
        jax.tree.map(np.subtract, update, sent)))
  total = jax.tree.map(lambda *x: sum(x), *given)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6 * 10),
               trees.add(got, memory[0]), total)
  assert lost > 1  # Something was to be kept.


def test_entries_that_do_not_travel_keep_their_memory():
  part = error_feedback(top_k(k=1))
  memory = ({'w': jnp.array([5.0, 0, 3])}, {'top_k': ()})
  message = sending.message_of(
      {'w': jnp.array([0.0, 1, 0])}, sent={'w': jnp.array([False, True, True])})
  sent, (kept, _) = jax.jit(part.client)(
      message, {'top_k': ()}, memory, sending.KEYS, nobody(1))
  np.testing.assert_array_equal(sent.update['w'], [0, 0, 3])
  np.testing.assert_array_equal(kept['w'], [5, 1, 0])


def test_an_update_that_is_not_finite_leaves_the_memory():
  part = error_feedback(top_k(k=1))
  memory = ({'w': jnp.array([5.0, 2])}, {'top_k': ()})
  sent, (kept, _) = jax.jit(part.client)(
      sending.message_of({'w': jnp.array([jnp.nan, 1])}), {'top_k': ()},
      memory, sending.KEYS, nobody(1))
  assert np.isnan(sent.update['w']).any()
  np.testing.assert_array_equal(kept['w'], [5, 2])


def test_one_model_is_not_paid_what_is_owed_to_another():
  """Of updates of one entry each, to the first, second and first of models."""
  part = error_feedback(top_k(k=1))
  first, second = jnp.array([True, False]), jnp.array([False, True])
  one = lambda update, group: sending.message_of(
      {'w': jnp.array(update)})._replace(group=group)
  memory = part.client_init(one([0.0, 0], first))
  sent = []
  for update, group in (([3.0, 1], first), ([3.0, 1], first),
                        ([5.0, 4], second), ([0.0, jnp.nan], first),
                        ([0.0, 1], second), ([0.0, 1], first)):
    message, memory = jax.jit(part.client)(
        one(update, group), {'top_k': ()}, memory, sending.KEYS, nobody(1))
    sent.append(message.update['w'])
  # The fifth pays the 4 of the third; the NaN between them is not kept.
  np.testing.assert_array_equal(
      sent[:3] + sent[4:], [[3, 0], [3, 0], [5, 0], [0, 5], [0, 1]])
  np.testing.assert_array_equal(memory[0]['w'], [0, 0])


MODEL = toys.quadratic_model()
# Large and opposite in one coordinate, alike in the other. The last one has
# more examples.
DATA = toys.points_data([np.array([[10.0, 1]]), np.array([[-10.0, 1]]),
                         np.array([[0.0, 4]] * 3)])


def run(part, cohorts, rate=0.5, weighting='uniform'):
  """The states and the models after each round."""
  algorithm = algorithms.fedavg(
      MODEL, optax.sgd(rate), batch_size=3, weighting=weighting,
      aggregator=aggregation.aggregator(part))
  sampler = sampling.Sampler(
      lambda r: np.array(cohorts[r]), max(map(len, cohorts)), 3)
  simulation = build_lib.build(MODEL, algorithm, DATA, sampler, lanes=2)
  states = [jax.device_get(progress.state) for progress in drive(
      simulation, simulation.init(), len(cohorts), rounds_per_dispatch=1)]
  return states, [state.server.variables.params['w'] for state in states]


def test_it_reaches_what_compression_alone_never_sends():
  """Of two entries one travels: the larger, in which clients cancel."""
  cohorts = [[0, 1]] * 40
  assert abs(run(top_k(k=1), cohorts)[1][-1][1]) < 1e-6
  for part in (error_feedback(top_k(k=1)), ef21(top_k(k=1))):
    _, models = run(part, cohorts, rate=0.1)
    # A delayed coordinate goes past the optimum and comes back.
    assert abs(np.mean([w[1] for w in models[-10:]]) - 1) < 0.2, part.name


def test_who_is_seldom_drawn_keeps_what_it_owes():
  """Client 2 is drawn in rounds 1 and 4, and sends in 4 what 1 has left."""
  cohorts = [[0], [2], [0], [1], [2]]
  states, models = run(error_feedback(top_k(k=1)), cohorts, 0.25)
  kept = [state.transforms[0]['error_feedback'][0].params['w'][2]
          for state in states]
  point, w = np.array([0.0, 4]), [np.zeros(2), *models]
  first = 0.25 * (point - w[1])
  np.testing.assert_allclose(kept[1], [first[0], 0], rtol=1e-6)
  assert first[0] != 0
  for later in kept[2:4]:
    np.testing.assert_array_equal(later, kept[1])
  owed = 0.25 * (point - w[4]) + kept[1]
  sent = w[5] - w[4]
  np.testing.assert_allclose(kept[4], owed - sent, atol=1e-6)
  np.testing.assert_allclose(sent, largest(owed), atol=1e-6)


def largest(x):
  """The larger of two entries, the other zero."""
  return np.where(np.arange(2) == np.abs(x).argmax(), x, 0)


def estimates(part, cohorts, weighting='uniform'):
  """EF21 in NumPy, with the identity or the larger entry as compressor."""
  points = np.array([[10.0, 1], [-10.0, 1], [0.0, 4]])
  sizes = [1, 1, 3] if weighting == 'examples' else [1, 1, 1]
  g, weights = np.zeros((3, 2)), np.zeros(3)
  w, models = np.zeros(2), []
  for cohort in cohorts:
    for k in cohort:
      change = sizes[k] * 0.5 * (points[k] - w) - g[k]
      if part == 'top_k':
        change = largest(change)
      g[k] += change
      weights[k] = sizes[k]
    w = w + g.sum(0) / weights.sum()
    models.append(w)
  return models, g


@pytest.mark.parametrize('name', ['top_k', 'identity'])
@pytest.mark.parametrize('weighting', ['uniform', 'examples'])
def test_ef21_is_the_mean_of_what_clients_last_said(name, weighting):
  part = {'top_k': top_k(k=1), 'identity': aggregation.identity()}[name]
  cohorts = [[0, 2], [1], [0, 1, 2], [2], [0, 1]]
  states, got = run(ef21(part), cohorts, weighting=weighting)
  want, g = estimates(name, cohorts, weighting)
  np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)
  memories = states[-1].transforms[0]['ef21']
  np.testing.assert_allclose(memories[1].params['w'], g, rtol=1e-5, atol=1e-5)
  # The server's sum is that of the clients' estimates.
  np.testing.assert_allclose(
      states[-1].aggregator[0].transform['ef21'][1].params['w'], g.sum(0),
      rtol=1e-5, atol=1e-5)


def test_ef21_of_all_clients_that_lose_nothing_is_fedavg():
  cohorts = [[0, 1, 2]] * 3
  _, want = run(aggregation.identity(), cohorts, weighting='examples')
  _, got = run(ef21(aggregation.identity()), cohorts, weighting='examples')
  np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize('wrap', [error_feedback, ef21])
def test_parts_in_the_wrong_place(wrap):
  name = wrap.__name__
  for make, message in (
      (lambda: wrap(), 'needs a compressor'),
      (lambda: wrap(aggregation.median()), f'an argument of {name} must be a'),
      (lambda: wrap(aggregation.downlink(quantize(4))), 'what clients send'),
      (lambda: wrap(aggregation.clip(1.0)), "got 'clip', which must stand bef"),
      (lambda: wrap(error_feedback(top_k(0.1))), "got 'error_feedback'"),
      (lambda: aggregation.chain(wrap(top_k(0.1)), aggregation.clip(1.0)),
       f"must have 'clip' before '{name}'"),
      (lambda: aggregation.chain(wrap(top_k(0.1)), quantize(2)),
       f"must have 'quantize' within '{name}'"),
      (lambda: aggregation.chain(aggregation.rotate(), wrap(quantize(2))),
       f"must have 'rotate' within '{name}'"),
      (lambda: aggregation.chain(wrap(top_k(0.1)), error_feedback(top_k(0.1))),
       'must have one of')):
    with pytest.raises(ValueError, match=message):
      make()
  aggregation.chain(aggregation.clip(1.0), wrap(top_k(0.1), quantize(4)))


def test_ef21_needs_a_mean_of_all_clients():
  part = ef21(top_k(0.1))
  with pytest.raises(ValueError, match="reduce must be a mean.*'ef21'"):
    aggregation.aggregator(part, reduce=aggregation.median())
  aggregation.aggregator(part, reduce=aggregation.fixed_mean(3))
  with pytest.raises(ValueError, match='leaves weights as they are'):
    aggregation.on('w', part)
  with pytest.raises(ValueError, match='messages in groups'):
    algorithm = algorithms.ifca(
        MODEL, optax.sgd(0.1), clusters=2,
        aggregator=aggregation.aggregator(part))
    sampler = sampling.uniform(3, 2, seed=0)
    build_lib.build(MODEL, algorithm, DATA, sampler).init()
