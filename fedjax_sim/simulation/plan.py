"""Plans rounds on the host: cohorts into blocks of lanes."""

import heapq
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from fedjax_sim.core import compilation, loops
from fedjax_sim.core.types import Slot


class Plan(NamedTuple):
  """What the devices need to know of R rounds.

  Each of D devices has blocks of its own; those that hold anybody come first.

  Attributes:
    slots: Slot [R, D, blocks, W].
    evaluate: bool [R], whether to evaluate after the round.
  """

  slots: Slot
  evaluate: np.ndarray


def plan_rounds(
    cohorts: Sequence[np.ndarray],
    evaluate: Sequence[bool],
    work: np.ndarray,
    offsets: np.ndarray,
    *,
    lanes: int,
    num_blocks: int,
    num_rounds: int,
    devices: int = 1,
    owners: np.ndarray | None = None,
    start: int = 0,
    once: bool = False,
    arrives: Sequence[np.ndarray] | None = None,
    done: Sequence[np.ndarray] | None = None,
    lags: Sequence[np.ndarray] | None = None,
) -> Plan:
  """Deals cohorts to devices and packs them into blocks, most work first.

  Sorting puts clients of like work side by side, so that few lanes wait. Those
  whose messages don't arrive come last, and are not computed.

  Args:
    cohorts: int32 [M] client numbers of each round.
    evaluate: for each of these rounds.
    work: int [N], local steps of every client, or any measure of them.
    offsets: int32 [N + 1], where clients' examples begin.
    lanes: W.
    num_blocks: blocks of a device in a round; `num_blocks * lanes` slots must
      hold whatever a device may be dealt.
    num_rounds: R, at least `len(cohorts)`; rounds beyond are empty.
    devices: D.
    owners: int [N], ascending, the device that must compute a client and
      holds its state; None deals each round's clients so that devices have
      like work.
    start: number of the first round, from 0.
    once: whether clients keep states, so that none may be in a cohort twice:
      one of its states would be lost.
    arrives: bool [M] of each round, whose messages reach the server; None where
      all do.
    done: int [M] of each round, the local steps that clients get done; None for
      all of them.
    lags: int [M] of each round, server steps since their models left; None
      for 0.

  Raises:
    ValueError: a cohort holds what is no client, or too many clients, or one
      twice that may be there once.
  """
  shape = num_rounds, devices, num_blocks * lanes
  clients = np.zeros(shape, np.int32)
  occurrences = np.zeros(shape, np.int32)
  places = np.zeros(shape, np.int32)
  present = np.zeros(shape, bool)
  heard = None if arrives is None else np.zeros(shape, bool)
  steps = None if done is None else np.zeros(shape, np.int32)
  behind = None if lags is None else np.zeros(shape, np.int32)
  for i, cohort in enumerate(cohorts):
    cohort = check_cohort(cohort, start + i, len(work), once)
    if owners is None and len(cohort) > devices * shape[2]:
      raise _does_not_fit(len(cohort), num_blocks, lanes)
    amount = work[cohort] if done is None else np.minimum(work[cohort], done[i])
    if arrives is not None:
      amount = np.where(arrives[i], amount, -1)
    order = np.argsort(-amount, kind='stable')
    occurrence = count_occurrences(cohort)
    dealt = (deal(np.maximum(amount[order], 0), devices, shape[2])
             if owners is None else owners[cohort[order]])
    by_device = order[np.argsort(dealt, kind='stable')]
    counts = np.bincount(dealt, minlength=devices)
    if counts.max() > shape[2]:
      raise _does_not_fit(counts.max(), num_blocks, lanes)
    firsts = np.repeat(np.cumsum(counts) - counts, counts)
    slot = i, np.repeat(np.arange(devices), counts), (
        np.arange(len(cohort)) - firsts)
    clients[slot] = cohort[by_device]
    occurrences[slot] = occurrence[by_device]
    places[slot] = by_device
    present[slot] = True
    if heard is not None:
      heard[slot] = arrives[i][by_device]
    if steps is not None:
      steps[slot] = done[i][by_device]
    if behind is not None:
      behind[slot] = lags[i][by_device]
  flags = np.zeros(num_rounds, bool)
  flags[:len(evaluate)] = evaluate
  begin = np.where(present, offsets[clients], 0).astype(np.int32)
  sizes = np.where(present, offsets[clients + 1] - begin, 0).astype(np.int32)
  first_owned = 0 if owners is None else np.searchsorted(
      owners, np.arange(devices))[:, None]
  state_index = np.where(present, clients - first_owned, 0).astype(np.int32)
  blocks = num_rounds, devices, num_blocks, lanes
  fields = (clients, occurrences, present, begin, sizes, state_index, places,
            heard, steps, behind)
  return Plan(Slot(*(x if x is None else x.reshape(blocks) for x in fields)),
              flags)


def check_cohort(
    cohort: np.ndarray, round_number: int, num_clients: int, once: bool
) -> np.ndarray:
  """The cohort of a round, int [M], if that is what it is.

  Args:
    cohort: what a sampler has drawn.
    round_number: from 0.
    num_clients: N.
    once: as in `plan_rounds`.
  """
  cohort = np.asarray(cohort)
  where = (f'the cohort of round {round_number + 1}, sampler({round_number}),')
  if cohort.ndim != 1 or not (
      np.issubdtype(cohort.dtype, np.integer) or not len(cohort)):
    raise ValueError(f'{where} must be an array of whole numbers, got '
                     f'{cohort.dtype}{list(cohort.shape)}.')
  wrong = cohort[(cohort < 0) | (cohort >= num_clients)]
  if len(wrong):
    raise ValueError(f'{where} must hold numbers of clients, from 0 to '
                     f'{num_clients - 1}, got {wrong[0]}.')
  if once and len(cohort):
    numbers, counts = np.unique(cohort, return_counts=True)
    if counts.max() > 1:
      raise ValueError(
          f'{where} holds client {numbers[counts.argmax()]} more than once, '
          'but the algorithm or a transform keeps a state of each '
          'client, of which only one can be kept: sample without replacement, '
          'or take an algorithm and transforms without such states.')
  return cohort.astype(np.int64)


def _does_not_fit(clients: int, num_blocks: int, lanes: int) -> ValueError:
  return ValueError(f'a cohort of {clients} clients does not fit into '
                    f'{num_blocks} blocks of {lanes} lanes.')


def deal(
    work: np.ndarray, devices: int, most: int | None = None
) -> np.ndarray:
  """Deals clients to devices, each to the one with least work so far.

  With the most work first this is longest processing time first (Graham 1969):
  the busiest device has at most 4/3 of the least time possible.

  Args:
    work: [M], most first.
    devices: D.
    most: clients that a device may get, at least M / D; None is any number.

  Returns:
    int [M], the device of each; of devices with equal work the one with fewer
    clients, so that clients without work are spread too.
  """
  dealt = np.zeros(len(work), int)
  loads = [(0, 0, device) for device in range(devices)]
  for i, amount in enumerate(work.tolist()):
    load, count, device = loads[0]
    dealt[i] = device
    if count + 1 == most:
      heapq.heappop(loads)
    else:
      heapq.heapreplace(loads, (load + amount, count + 1, device))
  return dealt


def padded_share(plan: Plan, steps: np.ndarray) -> np.ndarray:
  """The share of computed steps that are padding, for each round.

  A block's lanes are computed together until the wider phase of
  `core.loops.fori_lanes` ends; what a lane is computed beyond its own steps is
  padding, and so is an empty slot.

  Args:
    plan: R rounds.
    steps: int [N], local steps of every client.

  Returns:
    float [R]; 0 where a round does nothing.
  """
  work = _work(plan.slots, steps)
  computed = np.zeros(len(work), np.int64)
  lanes = work.shape[-1]
  done = np.zeros(work.shape[:3], np.int64)
  widths = loops.phase_widths(lanes, compilation.platform())
  for width, following in zip(widths, (*widths[1:], 0), strict=True):
    stop = np.maximum(done, work[..., following:].max(axis=-1))
    computed += ((stop - done) * width).sum(axis=(1, 2))
    done = stop
  real = work.sum(axis=(1, 2, 3))
  return np.where(computed > 0, 1 - real / np.maximum(computed, 1), 0.0)


def imbalance(plan: Plan, steps: np.ndarray) -> np.ndarray:
  """How much longer the busiest device works than devices do on average.

  Args:
    plan: R rounds.
    steps: int [N], local steps of every client.

  Returns:
    float [R], busiest over mean, minus 1; 0 where a round does nothing.
  """
  work = _work(plan.slots, steps).sum(axis=(2, 3))
  mean = work.mean(axis=1)
  return np.where(mean > 0, work.max(axis=1) / np.where(mean > 0, mean, 1) - 1,
                  0.0)


def _work(slots: Slot, steps: np.ndarray) -> np.ndarray:
  """int [R, D, blocks, W], local steps of those whose messages arrive."""
  work = np.where(slots.is_heard, steps[slots.client], 0)
  return work if slots.work is None else np.minimum(work, slots.work)


def count_occurrences(cohort: np.ndarray) -> np.ndarray:
  """For each entry, how many equal entries come before it: int32 [M]."""
  order = np.argsort(cohort, kind='stable')
  ranked = np.asarray(cohort)[order]
  starts = np.flatnonzero(np.r_[True, ranked[1:] != ranked[:-1]])
  counts = np.zeros(len(ranked), np.int32)
  lengths = np.diff(np.r_[starts, len(ranked)])
  counts[order] = np.arange(len(ranked)) - np.repeat(starts, lengths)
  return counts


def slots_for(cohort_size: int, devices: int, owned: bool) -> int:
  """The most clients of a round that a device may be dealt.

  Where clients have owners one device may have to take them all. Else twice
  its share is enough: a device that gets large clients gets few.
  """
  return cohort_size if owned else min(
      cohort_size, 2 * -(-cohort_size // devices))


def blocks_for(cohort_size: int, lanes: int) -> int:
  """How many blocks of `lanes` hold a cohort."""
  return -(-cohort_size // lanes)


def evaluate_after(eval_every: int, last_round: int) -> Callable[[int], bool]:
  """Whether to evaluate after a round (from 0): every n-th, and the last."""
  return lambda r: (r + 1) % eval_every == 0 or r + 1 == last_round
