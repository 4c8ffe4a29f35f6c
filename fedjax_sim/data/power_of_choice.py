"""Power-of-Choice: of some candidates those with the highest losses take part.

Cho, Wang and Joshi, "Client selection in federated learning: convergence
analysis and power-of-choice selection strategies" (2020), section 4. In each
round

1. d candidates are drawn without replacement, client k with probability p_k,
   its share of the data;
2. their local losses F_k(w) with the present model are obtained;
3. the M with the highest ones take part, ties broken at random.

There are three ways to obtain the loss: pow-d measures it on all local data;
cpow-d on a minibatch; rpow-d takes the mean loss over the local steps of the
client's last participation, infinity if there was none, which needs no
communication but of that number. Selection is biased towards high losses, and
more so the larger d is; with d = M it is sampling by size, or uniform.
"""

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


@by_losses
def power_of_choice(
    sizes: np.ndarray, clients_per_round: int, seed: int, *, candidates: int,
    losses: str = 'all', batch_size: int | None = None, by_size: bool = True,
    measuring: float = 1 / 3,
) -> Sampler:
  """A sampler that prefers clients with a high loss.

  Args:
    sizes: int [N], examples of each client; one without any never takes part.
    clients_per_round: M.
    seed: whole number from 0 to 2**64 - 1.
    candidates: d, from M to the number of clients that have examples.
    losses: 'all' measures on all local data (pow-d), 'batch' on a random batch
      (cpow-d); 'stale' takes that of the last participation (rpow-d).
    batch_size: examples of a batch, for 'batch' alone.
    by_size: whether candidates are drawn in proportion to their examples; else
      all alike. Where they are, a mean that weighs by examples counts them
      twice: `weighting='uniform'` is the paper's.
    measuring: seconds of measuring on all local data, as a share of those of a
      client's local steps in a round. A forward pass takes about a third of a
      step, so 1/3 is right for one local epoch.

  Raises:
    ValueError: an argument is out of range.
  """
  sizes = np.asarray(sizes)
  usable = int(np.count_nonzero(sizes))
  count = cohort_size(usable, clients_per_round=clients_per_round)
  random.seed('seed', seed)
  _check(count, usable, candidates, losses, batch_size, measuring)
  is_stale = losses == 'stale'
  weights = np.asarray(sizes if by_size else sizes > 0, np.float64)

  def choose(memory, question: Question):
    rng = generator(seed, question.round)
    among = (np.arange(len(sizes)) if question.among is None
             else np.asarray(question.among))
    own = weights[among]
    number = min(max(candidates, question.count), np.count_nonzero(own))
    if not number:
      return np.zeros(0, np.int32), memory
    drawn = among[rng.choice(
        len(among), number, replace=False, p=own / own.sum())]
    known = memory[drawn] if is_stale else question.measure(drawn)
    known = np.where(np.isnan(known), -np.inf, known)
    order = np.lexsort((rng.random(number), -known))
    return drawn[order[:question.count]].astype(np.int32), memory

  def learn(memory, told: Feedback):
    if is_stale:
      memory = memory.copy()
      memory[told.clients] = told.values
    return memory

  settings = (f'power_of_choice(candidates={candidates}, losses={losses!r}, '
              f'batch_size={batch_size}, by_size={by_size}, '
              f'measuring={measuring}, seed={seed})')
  made = Selector(
      init=lambda: np.full(len(sizes), np.inf) if is_stale else (),
      choose=choose, learn=learn, settings=settings,
      hears='loss' if is_stale else None,
      candidates=0 if is_stale else candidates, batch_size=batch_size,
      share=measuring)
  return Sampler(
      knowing_nothing(made, count), count, len(sizes), selector=made,
      prefers=True, min_cohort=count)


def _check(
    count: int, usable: int, candidates: int, losses: str,
    batch_size: int | None, measuring: float,
) -> None:
  """ValueError for an argument out of range."""
  checks.positive_int('candidates', candidates)
  if not count <= candidates <= usable:
    raise ValueError(
        f'candidates must be from clients_per_round = {count} to {usable}, the '
        f'clients that have examples, got {candidates}.')
  checks.one_of('losses', losses, ('all', 'batch', 'stale'))
  if (batch_size is not None) != (losses == 'batch'):
    raise ValueError("batch_size must be given for losses='batch', and for "
                     f'nothing else, got {batch_size} with {losses!r}.')
  if batch_size is not None:
    checks.positive_int('batch_size', batch_size)
  checks.non_negative('measuring', measuring)
