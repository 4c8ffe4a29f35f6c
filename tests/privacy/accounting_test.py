"""Epsilon against a closed form, published figures and identities."""

import math

import pytest
from scipy import optimize, stats

from fedjax_sim import privacy
from fedjax_sim.privacy import accounting


def gaussian_epsilon(mu, delta):
  """Of a Gaussian mechanism of sensitivity mu, Balle and Wang (2018), eq. 6."""
  def excess(epsilon):
    return (stats.norm.cdf(mu / 2 - epsilon / mu) - math.exp(epsilon)
            * stats.norm.cdf(-mu / 2 - epsilon / mu) - delta)
  return optimize.brentq(excess, 0, 50)


@pytest.mark.parametrize('sampling', accounting.SAMPLINGS)
def test_with_all_clients_it_is_a_gaussian_mechanism(sampling):
  # T sums with noise z are one sum with noise z / sqrt(T).
  found = privacy.guarantee(
      20.0, rounds=100, num_clients=30, cohort_size=30, delta=1e-6,
      sampling=sampling)
  assert found.epsilon == pytest.approx(
      gaussian_epsilon(math.sqrt(100) / 20, 1e-6), rel=0.005)
  assert found[1:] == (1e-6, 'add or remove one client',
                       'all clients in every round', 'PLD', 100)


# TensorFlow Privacy's tutorial, README of 2019: MNIST with batches of 256 of
# 60,000, delta = 1e-5, by Renyi divergences. Their conversion to epsilon has
# been tightened since, by 10% to 20%; PLD is tighter still.
@pytest.mark.parametrize('noise, epochs, published', [
    (1.3, 15, 1.19), (1.1, 60, 3.01)])
def test_published_figures_bound_it(noise, epochs, published):
  setting = accounting.checked(
      epochs * 60000 // 256, 60000, 256, 'poisson', 1e-5)
  renyi = accounting.composed('RDP', noise, setting)
  assert 0.75 * published < renyi <= published
  found = accounting.of(noise, setting)
  assert 0.85 * renyi < found.epsilon < renyi
  assert found.accountant == 'PLD'
  assert found.sampling == 'Poisson sampling with q = 0.004267'


def test_replacing_a_client_moves_a_sum_by_twice_the_norm():
  setting = accounting.checked(10, 50, 50, 'poisson', 1e-5)
  replaced = setting._replace(poisson=False)
  # Without sampling the theorem is that of Gaussian noise.
  assert accounting._event(
      accounting.library(), 3.0, replaced._replace(cohort_size=49)
  ).event.noise_multiplier == 1.5
  # Sampled, it costs more than Poisson sampling with half the noise.
  fixed = privacy.guarantee(
      6.0, rounds=10, num_clients=50, cohort_size=5, sampling='fixed')
  poisson = privacy.guarantee(
      3.0, rounds=10, num_clients=50, cohort_size=5)
  assert fixed.epsilon >= poisson.epsilon
  assert fixed.neighbours == 'replace one client'
  assert fixed.delta == pytest.approx(50 ** -1.1)


def test_no_noise_is_no_privacy_and_more_rounds_are_less():
  setting = {'num_clients': 1000, 'cohort_size': 10, 'delta': 1e-5}
  assert privacy.guarantee(0.0, rounds=1, **setting).epsilon == math.inf
  few, many = (privacy.guarantee(1.0, rounds=rounds, **setting).epsilon
               for rounds in (10, 1000))
  assert 0 < few < many
  loud = privacy.guarantee(0.3, rounds=1000, **setting)
  assert loud.accountant == 'RDP' and loud.epsilon > 30


@pytest.mark.parametrize('sampling', accounting.SAMPLINGS)
def test_calibrated_noise_is_just_enough(sampling):
  setting = {'rounds': 50, 'num_clients': 400, 'cohort_size': 20,
             'delta': 1e-4, 'sampling': sampling}
  noise = privacy.noise_multiplier(3.0, **setting)
  assert privacy.guarantee(noise, **setting).epsilon <= 3.0
  assert privacy.guarantee(0.997 * noise, **setting).epsilon > 3.0


@pytest.mark.parametrize('wrong, message', [
    ({'noise_multiplier': -1.0}, 'noise_multiplier must be'),
    ({'rounds': 0}, 'rounds must be'), ({'cohort_size': 11}, 'at most .* 10'),
    ({'delta': 1.0}, r'delta must lie in \(0, 1\), got 1.0'),
    ({'delta': 'small'}, "got 'small'"),
    ({'sampling': 'uniform'}, 'sampling must be one of fixed, poisson')])
def test_bad_arguments_are_named(wrong, message):
  right = {'noise_multiplier': 1.0, 'rounds': 1, 'num_clients': 10,
           'cohort_size': 2}
  with pytest.raises(ValueError, match=message):
    privacy.guarantee(**right | wrong)
