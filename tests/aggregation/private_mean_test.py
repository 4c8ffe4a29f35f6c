"""Clipped means with noise: by hand, and by the noise's moments."""

import jax
import numpy as np
import optax
import pytest
from jax import numpy as jnp

from fedjax_sim import aggregation, algorithms, data, simulate
from fedjax_sim.core.types import Aggregate, Message
from tests import toys

MODEL = toys.quadratic_model()
POINTS = toys.points_data([np.array([[1.0, 0]]), np.array([[0, 20.0]] * 3)])


def trained(aggregator, **options):
  algorithm = algorithms.fedavg(
      MODEL, optax.sgd(0.1), aggregator=aggregator, weighting='examples')
  return simulate(MODEL, algorithm, POINTS, **{
      'rounds': 1, 'client_fraction': 1.0} | options)


def test_without_noise_it_is_a_clipped_sum_over_a_fixed_number():
  # Steps of 0.1 * distance: 0.1 and 2, three times, the second clipped to 0.5.
  # Examples don't count, and the number is not how many came.
  result = trained(aggregation.private_mean(0.5, noise=0.0, cohort_size=4))
  np.testing.assert_allclose(
      result.variables.params['w'], [0.1 / 4, 0.5 / 4], rtol=1e-6)
  assert result.records[-1]['private_mean/norm'] == 0.5


def served(made, keys, norm=None, below=0.0):
  """The server's part for a mean of zeros, in two leaves, for some keys."""
  aggregate = Aggregate(
      {'a': jnp.zeros(15000), 'b': jnp.zeros(5000)}, jnp.float32(7.0),
      jnp.float32(50), jnp.int32(40), {'private_mean': {'below': below}})
  state = {'private_mean': () if norm is None else jnp.float32(norm)}
  sent = Message(aggregate.mean, jnp.float32(1))
  one = lambda key: made.transform.server(aggregate, state, key, None, sent)
  return jax.lax.map(one, jax.random.split(jax.random.key(0), keys))


def test_the_noise_has_its_deviation_and_is_fresh_for_each_value():
  made = aggregation.private_mean(0.3, noise=1.5, cohort_size=50)
  aggregate, _, _ = served(made, 2)
  noise = np.concatenate(
      [aggregate.mean['a'], aggregate.mean['b']], axis=1) * 50 / (1.5 * 0.3)
  # 20,000 values: standard errors 0.005 and 0.007.
  assert np.allclose(noise.std(axis=1), 1, atol=5 * 0.005)
  assert np.allclose(noise.mean(axis=1), 0, atol=5 * 0.007)
  for one, other in ((noise[0], noise[1]),
                     (aggregate.mean['a'][0, :5000], aggregate.mean['b'][0])):
    assert abs(np.corrcoef(one, other)[0, 1]) < 5 * 0.014
  # How many examples clients have is not told.
  np.testing.assert_array_equal(aggregate.weight, 50)


def test_noise_on_the_count_is_paid_for_by_the_noise_on_the_sum():
  made = aggregation.private_mean(
      aggregation.adaptive(0.3, count_noise=1.0), noise=1.2, cohort_size=50)
  aggregate, following, metrics = served(made, 400, norm=0.3, below=5.0)
  # Both together are as private as one sum: z^-2 = z_sum^-2 + (2 sigma_b)^-2.
  z_sum = (1.2 ** -2 - (2 * 1.0) ** -2) ** -0.5
  deviation = np.std(aggregate.mean['a']) * 50 / 0.3
  assert deviation == pytest.approx(z_sum, rel=0.003)
  # sum_k (b_k - 1/2) = 5; 400 draws: standard errors of 5% and 3.5%.
  below = np.asarray(metrics['private_mean']['below'])
  assert below.mean() == pytest.approx(0.5 + 5 / 50, abs=5 * 0.001)
  assert below.std() * 50 == pytest.approx(1.0, rel=5 * 0.035)
  np.testing.assert_allclose(
      following['private_mean'], 0.3 * np.exp(-0.2 * (below - 0.5)), rtol=1e-5)


def test_without_noise_the_norm_is_that_of_adaptive_clip():
  def norms(made):
    records = trained(made, rounds=10).records
    return [value for record in records for name, value in record.items()
            if name.endswith('/norm')]
  private = norms(aggregation.private_mean(
      aggregation.adaptive(0.5, quantile=0.3, count_noise=1e-6), noise=0.0,
      cohort_size=2))
  plain = norms(aggregation.aggregator(
      aggregation.adaptive_clip(0.5, quantile=0.3),
      reduce=aggregation.fixed_mean(2)))
  assert len(private) == 10
  np.testing.assert_allclose(private, plain, rtol=1e-4)


def test_a_round_without_clients_is_noise():
  sampler = data.sampling.Sampler(lambda r: np.zeros(0, np.int32), 2, 2)
  made = aggregation.private_mean(0.5, noise=1.0, cohort_size=2)
  result = trained(made, sampler=sampler, client_fraction=None)
  assert np.all(np.abs(result.variables.params['w']) > 1e-4)


@pytest.mark.parametrize('name', ['scaffold', 'ifca', 'q_fedavg', 'feddyn'])
def test_what_no_noise_covers_is_refused(name):
  made = aggregation.private_mean(0.5, noise=1.0, cohort_size=2)
  algorithm = {
      'scaffold': lambda: algorithms.scaffold(MODEL, 0.1, aggregator=made),
      'ifca': lambda: algorithms.ifca(
          MODEL, optax.sgd(0.1), clusters=2, aggregator=made),
      'q_fedavg': lambda: algorithms.q_fedavg(
          MODEL, 0.1, q=1.0, aggregator=made),
      'feddyn': lambda: algorithms.feddyn(
          MODEL, optax.sgd(0.1), alpha=0.1, aggregator=made)}[name]
  with pytest.raises(ValueError, match=(
      "private_mean must have one|(reduce|uplink) must .*got '?private_mean")):
    simulate(MODEL, algorithm(), POINTS, rounds=1, client_fraction=1.0)


@pytest.mark.parametrize('call, message', [
    (lambda: aggregation.private_mean(0.0, noise=1.0, cohort_size=2), 'clip'),
    (lambda: aggregation.private_mean(1.0, noise=-1.0, cohort_size=2),
     'noise must be .* >= 0, got -1.0'),
    (lambda: aggregation.private_mean(1.0, noise=1.0, cohort_size=0),
     'cohort_size'),
    (lambda: aggregation.adaptive(quantile=2.0), 'quantile'),
    (lambda: aggregation.adaptive(count_noise=0.0), 'count_noise'),
    (lambda: aggregation.private_mean(
        aggregation.adaptive(count_noise=0.5), noise=1.0, cohort_size=2),
     'count_noise .* half of noise, .* got 0.5 beside noise=1.0')])
def test_bad_arguments_are_named(call, message):
  with pytest.raises(ValueError, match=message):
    call()
