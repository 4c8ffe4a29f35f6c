import jax
import numpy as np
import optax
import pytest

from fedjax_sim import aggregation, algorithms
from tests import toys

MODEL = toys.quadratic_model()
CENTRES = np.array([[4.0, 0.0], [-3.0, 1.0], [0.5, -4.0], [1.0, 1.0]])
SIZES = (1, 3, 2, 1)
DATA = toys.points_data(
    [np.tile(c, (n, 1)) for c, n in zip(CENTRES, SIZES, strict=True)])
EVERYONE = [0, 1, 2, 3]


def run(cohorts, **options):
  algorithm = algorithms.fedexp(
      MODEL, optax.sgd(0.1), steps=3, batch_size=None, **options)
  server = toys.run_cohorts(MODEL, algorithm, DATA, cohorts, lanes=1).server
  return (np.asarray(server.variables.params['w']),
          np.asarray(server.extra.params['w']))


def clipped(deltas, norm):
  lengths = np.linalg.norm(deltas, axis=1, keepdims=True)
  return deltas * np.minimum(1, norm / lengths)


def larger(deltas):
  """The larger entry of each update, the other zero."""
  places = np.abs(deltas).argmax(1, keepdims=True)
  return np.where(np.arange(2) == places, deltas, 0)


def by_hand(cohorts, epsilon, weights=(1, 1, 1, 1), read=lambda deltas: deltas):
  """The iterates x_0, x_1 … and the server's rates."""
  weights, xs, rates = np.asarray(weights, np.float64), [np.zeros(2)], []
  for cohort in cohorts:
    # Three steps on a quadratic of curvature 1 with rate 0.1.
    found = (1 - 0.9 ** 3) * (CENTRES[cohort] - xs[-1])
    deltas = read(found)
    squares = np.minimum((found ** 2).sum(1), (deltas ** 2).sum(1))
    p = weights[cohort] / weights[cohort].sum()
    mean = p @ deltas
    rates.append(max(1.0, p @ squares / (
        2 * ((mean ** 2).sum() + epsilon))))
    xs.append(xs[-1] + rates[-1] * mean)
  return xs, rates


@pytest.mark.parametrize('weighting, epsilon', [
    ('uniform', 0.1), ('examples', 1e-3)])
def test_by_hand(weighting, epsilon):
  cohorts = [EVERYONE, [0, 1], [3], EVERYONE]
  weights = SIZES if weighting == 'examples' else (1, 1, 1, 1)
  xs, rates = by_hand(cohorts, epsilon, weights)
  # Both sides of the maximum are there, or this would test little.
  assert rates[0] > 1.5 and rates[2] == 1.0
  shown, last = run(cohorts, epsilon=epsilon, weighting=weighting)
  np.testing.assert_allclose(last, xs[-1], rtol=1e-4, atol=1e-5)
  np.testing.assert_allclose(
      shown, (xs[-1] + xs[-2]) / 2, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('part, read', [
    (aggregation.chain(aggregation.rotate(), aggregation.clip(0.1)),
     lambda deltas: clipped(deltas, 0.1)),
    (aggregation.top_k(k=1), larger),
    # What a code adds to an update does not make the step longer.
    (aggregation.transform(
        'doubled', client=lambda message, state, memory, keys, cohort: (
            message._replace(update=jax.tree.map(
                lambda x: 2 * x, message.update)), memory)),
     lambda deltas: 2 * deltas)], ids=['clip', 'top_k', 'doubled'])
def test_the_step_is_that_of_what_the_server_reads(part, read):
  cohorts = [EVERYONE, [0, 1], [3], EVERYONE]
  xs, rates = by_hand(cohorts, 1e-3, SIZES, read)
  assert max(rates) > 1.2
  _, last = run(cohorts, weighting='examples',
                aggregator=aggregation.aggregator(part))
  np.testing.assert_allclose(last, xs[-1], rtol=1e-4, atol=1e-5)


def test_without_averaging_the_model_is_the_last_iterate():
  cohorts = [EVERYONE, [0, 1]]
  shown, last = run(cohorts, average_last=False)
  np.testing.assert_array_equal(shown, last)
  np.testing.assert_array_equal(last, run(cohorts)[1])


def test_equal_clients_are_fedavg():
  """Updates that agree: the rate would be a half, so it is one."""
  cohorts = [[3], [3], [3]]
  fedavg = algorithms.fedavg(MODEL, optax.sgd(0.1), steps=3, batch_size=None)
  want = toys.run_cohorts(MODEL, fedavg, DATA, cohorts, lanes=1)
  np.testing.assert_allclose(
      run(cohorts)[1], want.server.variables.params['w'], rtol=1e-6)


def test_epsilon_must_be_positive():
  with pytest.raises(ValueError, match='epsilon must be positive'):
    algorithms.fedexp(MODEL, optax.sgd(0.1), epsilon=0.0)
