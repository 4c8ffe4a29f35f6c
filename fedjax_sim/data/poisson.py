"""Each client takes part with the same chance, independently of the others."""

import math

import numpy as np

from fedjax_sim.core import checks, random
from fedjax_sim.data.sampling import Sampler, Scheme, cohort_size

# The chance that a round has more clients than programs have places for.
CUT_OFF = 1e-20


def poisson(num_clients: int, clients_per_round: int, seed: int) -> Sampler:
  """Every client is in a cohort with chance q = M / N, independently.

  Cohorts have M clients on average, and may be empty. This is the sampling that
  accountants of differential privacy bound best (Abadi et al. 2016; McMahan et
  al. 2018, section 2): `aggregation.private_mean`.

  Programs have places for so many clients that a round has more with a chance
  below 1e-20; as many as fit then take part, drawn at random. So where M is
  small, most places are empty: they cost no training.

  Args:
    num_clients: N.
    clients_per_round: M, at most N, on average.
    seed: whole number from 0 to 2**64 - 1.

  Raises:
    ValueError: an argument is out of range. So does `sample`, for a round that
      is not a whole number >= 0.
  """
  expected = cohort_size(num_clients, clients_per_round=clients_per_round)
  random.seed('seed', seed)
  chance = expected / num_clients
  most = _places(num_clients, expected)

  def sample(round_number: int) -> np.ndarray:
    checks.at_least('round', round_number, 0)
    entropy = np.random.SeedSequence(random.words(seed, round_number))
    rng = np.random.Generator(np.random.Philox(entropy))
    # A number of clients and then who: O(M), whatever N is.
    count = min(rng.binomial(num_clients, chance), most)
    return rng.choice(num_clients, count, replace=False).astype(np.int32)

  return Sampler(sample, most, int(num_clients),
                 scheme=Scheme('poisson', expected))


def _places(num_clients: int, expected: int) -> int:
  """The fewest places of which a round needs more with a tiny chance."""
  if expected == num_clients:
    return num_clients
  from scipy import stats  # Takes long to import.
  # Ten standard deviations, and more where the mean is small.
  last = min(num_clients, expected + math.ceil(10 * math.sqrt(expected)) + 50)
  places = np.arange(expected, last + 1)
  more = stats.binom.sf(places, num_clients, expected / num_clients)
  return int(places[np.argmax(more <= CUT_OFF)])
