"""What rounds of a Gaussian mechanism on sampled clients guarantee.

All is at the level of clients: neighbouring federations differ in all data of
one client.
"""

import functools
import logging
import math
from typing import Any, NamedTuple

from fedjax_sim.core import checks
from fedjax_sim.data.poisson import CUT_OFF

SAMPLINGS = ('poisson', 'fixed')
# Above it the tighter accountant takes minutes, for a number that says nothing.
_TIGHT_UP_TO = 30.0


class Guarantee(NamedTuple):
  """(epsilon, delta)-differential privacy of a model, and what it rests on.

  Attributes:
    epsilon, delta: for neighbouring federations and any set of models, the
      chances of it differ by a factor of exp(epsilon) at most, and by delta.
    neighbours: 'add or remove one client' or 'replace one client'.
    sampling: how cohorts are drawn, in words.
    accountant: 'PLD' (privacy loss distributions) or 'RDP' (Renyi).
    rounds: of training.
  """

  epsilon: float
  delta: float
  neighbours: str
  sampling: str
  accountant: str
  rounds: int

  def __str__(self) -> str:
    return (f'epsilon {self.epsilon:.4g} at delta {self.delta:.3g} '
            f'({self.neighbours}; {self.sampling}; {self.rounds} rounds; '
            f'{self.accountant} accountant)')


class _Setting(NamedTuple):
  """What a guarantee depends on but for the noise."""

  rounds: int
  num_clients: int
  cohort_size: int
  delta: float
  poisson: bool

  @property
  def chance(self) -> float:
    return self.cohort_size / self.num_clients


def guarantee(
    noise_multiplier: float,
    *,
    rounds: int,
    num_clients: int,
    cohort_size: int,
    sampling: str = 'poisson',
    delta: float | None = None,
) -> Guarantee:
  """What `private_mean` guarantees after a number of rounds.

  With Poisson sampling (`data.poisson`), neighbours differ in the presence of
  one client, whose part in a sum is at most the norm C. The accountant composes
  privacy loss distributions (Koskela et al. 2020; Doroshenko et al. 2022), or,
  where epsilon is above 30, Renyi divergences (Mironov et al. 2019).

  With cohorts of a fixed size (`data.sampling.uniform`), the number of clients
  is public and neighbours differ in the data of one, which moves a sum by up to
  2 C: half the noise multiplier counts. Its accountant is Wang, Balle,
  Kasiviswanathan (2019), theorem 27; this costs far more epsilon than Poisson
  sampling. Papers that draw fixed cohorts often quote the number for Poisson
  sampling, which bounds something else. Where all clients take part in every
  round there is nothing to sample, and both are a plain Gaussian mechanism with
  neighbours that differ in the presence of one.

  Args:
    noise_multiplier: z, of `private_mean`; 0 gives epsilon = infinity.
    rounds: T.
    num_clients: N.
    cohort_size: M, at most N; with Poisson sampling on average.
    sampling: 'poisson' or 'fixed'.
    delta: in (0, 1); None is N^-1.1, as McMahan et al. (2018) have it.

  Raises:
    ValueError: an argument is out of range, or dp-accounting is missing.
  """
  checks.non_negative('noise_multiplier', noise_multiplier)
  setting = checked(rounds, num_clients, cohort_size, sampling, delta)
  return of(noise_multiplier, setting)


def checked(
    rounds: int, num_clients: int, cohort_size: int, sampling: str,
    delta: float | None,
) -> _Setting:
  """The arguments of `guarantee`.

  Raises:
    ValueError: one is out of range.
  """
  checks.positive_int('rounds', rounds)
  checks.positive_int('num_clients', num_clients)
  checks.positive_int('cohort_size', cohort_size)
  if cohort_size > num_clients:
    raise ValueError('cohort_size must be at most num_clients = '
                     f'{num_clients}, got {cohort_size}.')
  checks.one_of('sampling', sampling, SAMPLINGS)
  if delta is None:
    delta = min(num_clients ** -1.1, 0.5)
  if not (checks.is_number(delta) and 0 < delta < 1):
    raise ValueError(f'delta must lie in (0, 1), got {checks.shown(delta)}.')
  return _Setting(rounds, num_clients, cohort_size, float(delta),
                  sampling == 'poisson' or cohort_size == num_clients)


def of(noise_multiplier: float, setting: _Setting) -> Guarantee:
  """The guarantee of a noise multiplier, as `guarantee` describes it."""
  library()
  epsilon, accountant = math.inf, 'RDP'
  if noise_multiplier > 0:
    epsilon = composed('RDP', noise_multiplier, setting)
    if setting.poisson and epsilon <= _TIGHT_UP_TO:
      tight = composed('PLD', noise_multiplier, setting)
      if tight <= epsilon:
        epsilon, accountant = tight, 'PLD'
  everyone = setting.chance == 1
  sampling = ('all clients in every round' if everyone else
              f'Poisson sampling with q = {setting.chance:.4g}'
              if setting.poisson else
              f'{setting.cohort_size} of {setting.num_clients} without '
              'replacement')
  return Guarantee(
      epsilon, setting.delta + (0 if everyone else _cut_off(epsilon, setting)),
      'add or remove one client' if setting.poisson else 'replace one client',
      sampling, accountant, setting.rounds)


@functools.lru_cache(maxsize=1000)
def composed(
    accountant: str, noise_multiplier: float, setting: _Setting
) -> float:
  """Epsilon of all rounds, by 'PLD' or 'RDP'."""
  dp = library()
  relations = dp.NeighboringRelation
  relation = (relations.ADD_OR_REMOVE_ONE if setting.poisson
              else relations.REPLACE_ONE)
  made = (dp.pld.PLDAccountant if accountant == 'PLD'
          else dp.rdp.RdpAccountant)(neighboring_relation=relation)
  with _quiet():
    made.compose(_event(dp, noise_multiplier, setting), setting.rounds)
    return float(made.get_epsilon(setting.delta))


def _event(dp: Any, noise_multiplier: float, setting: _Setting) -> Any:
  """A round, as dp-accounting has it."""
  if setting.chance == 1:
    return dp.GaussianDpEvent(noise_multiplier)
  if setting.poisson:
    return dp.PoissonSampledDpEvent(
        setting.chance, dp.GaussianDpEvent(noise_multiplier))
  return dp.SampledWithoutReplacementDpEvent(
      setting.num_clients, setting.cohort_size,
      dp.GaussianDpEvent(noise_multiplier / 2))


def _cut_off(epsilon: float, setting: _Setting) -> float:
  """What is added to delta because very large cohorts are cut.

  Programs that differ with chance p have outputs whose chances differ by p; for
  neighbours that is p (1 + e^epsilon) more.
  """
  if not setting.poisson or epsilon > 700:
    return 0.0
  return setting.rounds * CUT_OFF * (1 + math.exp(epsilon))


def library() -> Any:
  """dp-accounting, with its accountants.

  Raises:
    ValueError: it isn't installed.
  """
  try:
    import dp_accounting
    import dp_accounting.pld
    import dp_accounting.rdp
  except ImportError as error:
    raise ValueError(
        'the package dp-accounting is missing: pip install dp-accounting.'
    ) from error
  return dp_accounting


class _quiet:
  """Leaves out that some orders of Renyi divergence don't converge.

  They are left out of a minimum, which is then no smaller.
  """

  def __enter__(self):
    self._logger = logging.getLogger('absl')
    self._level = self._logger.level
    self._logger.setLevel(logging.ERROR)

  def __exit__(self, *error):
    self._logger.setLevel(self._level)
