"""Oort: clients that are useful and fast, and now and then unknown ones.

Lai, Zhu, Madhyastha and Chowdhury, "Oort: efficient federated learning via
guided participant selection" (OSDI 2021), section 4 and algorithm 1. A client i
that was heard in round L_i has the statistical utility

    U_i = |B_i| sqrt(mean over its examples of loss^2),

clipped at the 95th percentile of all that are known. In round R, from 1, it
counts with

    (U_i + sqrt(0.1 ln R / L_i)) min(1, (T / t_i)^alpha),

t_i being the seconds that a round takes it, T those that are preferred. A part
of the cohort, 1 - epsilon, is drawn in proportion to that among the clients
with at least c times the value of the last one that would fit in; the others
are drawn from those never heard, in proportion to their speed 1 / t_i.
Every `pacer_window` rounds T grows by `pacer_step`, if the clients of these
rounds were less useful in sum than those of as many rounds before.
"""

from typing import NamedTuple

import numpy as np

from fedjax_sim.core import checks, random
from fedjax_sim.data.sampling import Sampler, cohort_size
from fedjax_sim.data.selector import (
    Feedback,
    Question,
    Selector,
    by_losses,
    generator,
    knowing_nothing,
)

# Of the utilities that are known; larger ones are taken for outliers.
_CLIPPED_AT = 95
# Arguments that do nothing where rounds take no time, and their defaults.
_OF_TIME = {'alpha': 2.0, 'preferred': None, 'pacer_step': None,
            'pacer_window': 20}


class Memory(NamedTuple):
  """What Oort remembers.

  Attributes:
    utility: float64 [N], U; NaN for one never heard.
    last: int64 [N], the round, from 1, in which a client was last heard.
    chosen: int64 [N], how often it was chosen.
    preferred: float64 [], T in seconds; NaN before the first round.
    gained: float64 [2 W], the utility of each of the last 2 W rounds, the
      latest one last.
  """

  utility: np.ndarray
  last: np.ndarray
  chosen: np.ndarray
  preferred: np.ndarray
  gained: np.ndarray


class _Rule(NamedTuple):
  """The arguments of `oort`."""

  exploration: float
  exploration_decay: float
  least_exploration: float
  alpha: float
  cutoff: float
  preferred: float | None
  pacer_step: float | None
  pacer_window: int
  most_rounds: int | None
  normalize: bool


@by_losses
def oort(
    sizes: np.ndarray, clients_per_round: int, seed: int, *,
    exploration: float = 0.9, exploration_decay: float = 0.98,
    least_exploration: float = 0.2, alpha: float = _OF_TIME['alpha'],
    cutoff: float = 0.95,
    preferred: float | None = None, pacer_step: float | None = None,
    pacer_window: int = _OF_TIME['pacer_window'],
    most_rounds: int | None = None, normalize: bool = False,
) -> Sampler:
  """Guided selection, with the paper's defaults where it names any.

  Where rounds take no time the system's part is left out: no T, no pacer, and
  unknown clients are drawn all alike. `alpha`, `preferred`, `pacer_step` and
  `pacer_window` are refused there, unless they are the defaults.

  Args:
    sizes: int [N], examples of each client; one without any never takes part.
    clients_per_round: M.
    seed: whole number from 0 to 2**64 - 1.
    exploration: epsilon of the first round, in [0, 1].
    exploration_decay: its factor from round to round, in (0, 1].
    least_exploration: where that ends, at most `exploration`.
    alpha: how much slow clients lose; 0 for nothing.
    cutoff: c, in [0, 1].
    preferred: T of the first round, in seconds; None for the median of the
      clients.
    pacer_step: by how many seconds T grows; None for a fifth of the first T.
    pacer_window: W, rounds.
    most_rounds: a client that was chosen so often is chosen no more, unless
      there are too few others; None for no end.
    normalize: whether utilities are first brought to [0, 1], the smallest to 0,
      so that the bonus of those not heard for long is of the same size.

  Raises:
    ValueError: an argument is out of range.
  """
  sizes = np.asarray(sizes)
  count = cohort_size(
      int(np.count_nonzero(sizes)), clients_per_round=clients_per_round)
  random.seed('seed', seed)
  rule = _Rule(exploration, exploration_decay, least_exploration, alpha, cutoff,
               preferred, pacer_step, pacer_window, most_rounds, normalize)
  _check(rule)

  def init() -> Memory:
    zeros = np.zeros(len(sizes), np.int64)
    return Memory(np.full(len(sizes), np.nan), zeros, zeros.copy(),
                  np.array(np.nan), np.zeros(2 * pacer_window))

  def choose(memory: Memory, question: Question):
    memory = _paced(rule, memory, question)
    among = (np.arange(len(sizes)) if question.among is None
             else np.asarray(question.among))
    chosen = _drawn(rule, memory, question, among[sizes[among] > 0],
                    generator(seed, question.round))
    often = memory.chosen.copy()
    often[chosen] += 1
    return chosen.astype(np.int32), memory._replace(chosen=often)

  def learn(memory: Memory, told: Feedback) -> Memory:
    utility, last = memory.utility.copy(), memory.last.copy()
    found = sizes[told.clients] * np.sqrt(told.values)
    found = np.where(np.isfinite(found), found, 0.0)
    utility[told.clients], last[told.clients] = found, told.round + 1
    return memory._replace(
        utility=utility, last=last,
        gained=np.append(memory.gained[1:], found.sum()))

  settings = f'oort({dict(rule._asdict())}, seed={seed})'
  made = Selector(init=init, choose=choose, learn=learn, settings=settings,
                  hears='squares', of_time=tuple(
                      name for name, default in _OF_TIME.items()
                      if getattr(rule, name) != default))
  return Sampler(
      knowing_nothing(made, count), count, len(sizes), selector=made,
      prefers=True, min_cohort=count)


def values(
    rule: _Rule, memory: Memory, clients: np.ndarray, number: int,
    seconds: np.ndarray | None,
) -> np.ndarray:
  """What clients that were heard count with, float64 [n].

  Args:
    rule: the arguments of `oort`.
    memory: of the rounds before.
    clients: int [n].
    number: R, the round from 1.
    seconds: float64 [N], as in `Question`.
  """
  known = memory.utility[~np.isnan(memory.utility)]
  most = np.percentile(known, _CLIPPED_AT)
  useful = np.minimum(memory.utility[clients], most)
  if rule.normalize:
    width = most - known.min()
    useful = (useful - known.min()) / (width if width > 0 else 1.0)
  useful = useful + np.sqrt(0.1 * np.log(number) / memory.last[clients])
  if seconds is None:
    return useful
  slow = memory.preferred / seconds[clients]
  return useful * np.minimum(1.0, slow) ** rule.alpha


def _paced(rule: _Rule, memory: Memory, question: Question) -> Memory:
  """With T as it is in this round."""
  if question.seconds is None:
    return memory
  reporting = question.seconds[np.isfinite(question.seconds)]
  first = (np.median(reporting) if rule.preferred is None
           else rule.preferred)
  if np.isnan(memory.preferred):
    return memory._replace(preferred=np.array(first))
  window = rule.pacer_window
  before, after = memory.gained[:window].sum(), memory.gained[window:].sum()
  if question.round < 2 * window or question.round % window or before <= after:
    return memory
  step = first / 5 if rule.pacer_step is None else rule.pacer_step
  return memory._replace(preferred=np.asarray(memory.preferred + step))


def _drawn(
    rule: _Rule, memory: Memory, question: Question, among: np.ndarray,
    rng: np.random.Generator,
) -> np.ndarray:
  """The cohort: clients that were heard, then unknown ones."""
  count = min(question.count, len(among))
  if rule.most_rounds is not None:
    fresh = among[memory.chosen[among] < rule.most_rounds]
    if len(fresh) < count:  # Those that were chosen least come back.
      order = np.argsort(memory.chosen[among], kind='stable')
      fresh = np.sort(among[order[:count]])
    among = fresh
  is_known = ~np.isnan(memory.utility[among])
  known, unknown = among[is_known], among[~is_known]
  epsilon = max(rule.least_exploration,
                rule.exploration * rule.exploration_decay ** question.round)
  new = min(int(round(epsilon * count)), len(unknown))
  new = max(new, count - len(known))
  return np.concatenate([
      _exploited(rule, memory, question, known, count - new, rng),
      _explored(question, unknown, new, rng)])


def _exploited(rule, memory, question, known, count: int, rng) -> np.ndarray:
  """So many of the clients that were heard, by what they count with."""
  if not count:
    return known[:0]
  worth = values(rule, memory, known, question.round + 1, question.seconds)
  last = np.sort(worth)[-count]
  admitted = worth >= rule.cutoff * last
  return _some(known[admitted], worth[admitted], count, rng)


def _explored(question: Question, unknown, count: int, rng) -> np.ndarray:
  """So many of those never heard, by speed."""
  weights = np.ones(len(unknown))
  if question.seconds is not None:
    weights = 1 / question.seconds[unknown]
  return _some(unknown, weights, count, rng)


def _some(clients, weights, count: int, rng) -> np.ndarray:
  """So many clients in proportion to weights, without replacement."""
  if not count:
    return clients[:0]
  if np.count_nonzero(weights) < count:  # Of those that count nothing too.
    weights = weights + max(weights.max(), 1.0) * 1e-9
  return rng.choice(clients, count, replace=False, p=weights / weights.sum())


def _check(rule: _Rule) -> None:
  """ValueError for an argument out of range."""
  for name in ('exploration', 'least_exploration', 'cutoff'):
    checks.fraction(name, getattr(rule, name))
  if rule.exploration < rule.least_exploration:
    raise ValueError(
        'exploration must be at least least_exploration = '
        f'{rule.least_exploration}, with which it ends, got '
        f'{rule.exploration}.')
  checks.share('exploration_decay', rule.exploration_decay)
  checks.non_negative('alpha', rule.alpha)
  for name in ('preferred', 'pacer_step'):
    if getattr(rule, name) is not None:
      checks.positive(name, getattr(rule, name))
  checks.positive_int('pacer_window', rule.pacer_window)
  if rule.most_rounds is not None:
    checks.positive_int('most_rounds', rule.most_rounds)
