"""Sampling: which clients take part in a round.

Decided on the host. The samplers here go by (seed, round) alone: any round's
cohort can be asked for at any time, in any order, so a run that resumes draws
what it would have drawn. Those that go by losses are in `power_of_choice` and
`oort`. (NumPy keeps its streams within a version, not across versions.)

Letters: N clients in the federation, M in a round's cohort.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from fedjax_sim.core import checks, random, short
from fedjax_sim.data.selector import Selector


class Sampler(NamedTuple):
  """Who takes part, and the bounds that programs are compiled for.

  Attributes:
    sample: `(round) -> int32 [M]`, client numbers in [0, num_clients); rounds
      are numbered from 0. The same round always gives the same clients.
    max_cohort: the most clients there can be in a round.
    num_clients: N.
    among: `(round, clients int [n], count) -> int32 [count]`, the same draw of
      another number of clients, among some; None for the clients is all. None
      where a sampler can't do it, which rounds that choose more clients than
      they need, or only some, ask for.
    selector: chooses by losses; `sample` is then whom it would choose knowing
      nothing. None for who depends on seed and round alone.
    prefers: whether some clients are chosen more often than others, so that it
      has nothing to do where all take part.
    scheme: what an accountant of privacy may take it for; None for nothing that
      it knows.
    min_cohort: how many different clients there are in a round at least; 0
      where that is not known.
  """

  sample: Callable[[int], np.ndarray]
  max_cohort: int
  num_clients: int
  among: Callable[[int, np.ndarray | None, int], np.ndarray] | None = None
  selector: Selector | None = None
  prefers: bool = False
  scheme: 'Scheme | None' = None
  min_cohort: int = 0

  def __repr__(self) -> str:
    return (f'Sampler(made by {short.maker(self.sample)}, at most '
            f'{self.max_cohort:,} of {self.num_clients:,} clients)')

  def may_be_idle(self, sizes: np.ndarray) -> bool:
    """Whether there may be a round of clients without examples alone.

    Args:
      sizes: int [N], examples of each client.
    """
    return self.min_cohort <= np.count_nonzero(sizes == 0)


class Scheme(NamedTuple):
  """How the cohort of each round is drawn, independently of all others.

  Attributes:
    name: 'fixed', a number of clients without replacement, or 'poisson', each
      client with the same chance.
    cohort_size: M, of 'poisson' on average.
  """

  name: str
  cohort_size: int


def uniform(num_clients: int, clients_per_round: int, seed: int) -> Sampler:
  """A fixed number of clients, uniformly at random without replacement.

  Time and memory of a draw are O(M), whatever N is.

  Args:
    num_clients: N.
    clients_per_round: M, at most N.
    seed: whole number from 0 to 2**64 - 1.

  Raises:
    ValueError: an argument is out of range. So does `sample`, for a round that
      is not a whole number >= 0.
  """
  cohort = cohort_size(num_clients, clients_per_round=clients_per_round)
  random.seed('seed', seed)

  def among(
      round_number: int, clients: np.ndarray | None, count: int
  ) -> np.ndarray:
    checks.at_least('round', round_number, 0)
    entropy = np.random.SeedSequence(random.words(seed, round_number))
    rng = np.random.Generator(np.random.Philox(entropy))
    # Generator.choice runs Floyd's algorithm on a hash set where M is below
    # N / 50 (and N above 10,000); else it takes O(N) <= O(50 M).
    size = num_clients if clients is None else len(clients)
    drawn = rng.choice(size, count, replace=False)
    return (drawn if clients is None else clients[drawn]).astype(np.int32)

  return Sampler(lambda round_number: among(round_number, None, cohort), cohort,
                 int(num_clients), among, min_cohort=cohort,
                 scheme=Scheme('fixed', cohort))


def by_size(
    sizes: np.ndarray, clients_per_round: int, seed: int) -> Sampler:
  """A fixed number of clients, one after the other in proportion to their size.

  Without replacement: a client that is drawn is left out of the following draws
  of the round. Large clients come more often, so a mean that weighs clients by
  their examples too would count them twice: use `weighting='uniform'`. Clients
  without examples are never drawn.

  Args:
    sizes: int [N], examples of each client.
    clients_per_round: M, at most the number of clients that have examples.
    seed: whole number from 0 to 2**64 - 1.

  Raises:
    ValueError: an argument is out of range. So does `sample`, for a round that
      is not a whole number >= 0.
  """
  sizes = np.asarray(sizes, np.float64)
  cohort = cohort_size(
      int(np.count_nonzero(sizes)), clients_per_round=clients_per_round)
  random.seed('seed', seed)

  def among(
      round_number: int, clients: np.ndarray | None, count: int
  ) -> np.ndarray:
    checks.at_least('round', round_number, 0)
    entropy = np.random.SeedSequence(random.words(seed, round_number))
    rng = np.random.Generator(np.random.Philox(entropy))
    own = sizes if clients is None else sizes[clients]
    count = min(count, np.count_nonzero(own))
    if not count:
      return np.zeros(0, np.int32)
    drawn = rng.choice(len(own), count, replace=False, p=own / own.sum())
    return (drawn if clients is None else clients[drawn]).astype(np.int32)

  return Sampler(lambda round_number: among(round_number, None, cohort), cohort,
                 len(sizes), among, prefers=True, min_cohort=cohort)


def check(sampler: Sampler, num_clients: int) -> None:
  """ValueError unless it draws from a federation of so many clients."""
  if sampler.num_clients != num_clients:
    raise ValueError(
        f'the sampler draws from num_clients = {sampler.num_clients}, the '
        f'federation has {num_clients}.')


def cohort_size(
    num_clients: int,
    *,
    clients_per_round: int | None = None,
    client_fraction: float | None = None,
) -> int:
  """M, the clients in a round, given as a number or as a fraction C.

  For a fraction it is max(C * N, 1) as in the FedAvg paper, rounded down: C = 0
  is one client.

  Args:
    num_clients: N.
    clients_per_round: M, at most N.
    client_fraction: C, in [0, 1].

  Raises:
    ValueError: not exactly one of the two is given, or one is out of range.
  """
  checks.positive_int('num_clients', num_clients)
  if (clients_per_round is None) == (client_fraction is None):
    raise ValueError(
        'exactly one of clients_per_round and client_fraction must be given, '
        f'got {clients_per_round!r} and {client_fraction!r}.')
  if client_fraction is not None:
    checks.fraction('client_fraction', client_fraction)
    # Rounded first: 0.29 * 100 is 28.999999999999996 in floating point.
    return max(math.floor(round(client_fraction * num_clients, 6)), 1)
  checks.positive_int('clients_per_round', clients_per_round)
  if clients_per_round > num_clients:
    raise ValueError(
        f'clients_per_round must be at most num_clients = {num_clients}, got '
        f'{clients_per_round}.')
  return int(clients_per_round)
