"""Plans rounds on the host: cohorts into blocks of lanes."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np


class Plan(NamedTuple):
  """What the device needs to know of R rounds.

  Attributes:
    clients: int32 [R, blocks, W], client numbers; 0 in an empty slot.
    occurrences: int32 [R, blocks, W], how often the client came before in the
      same cohort (0 unless sampled with replacement).
    present: bool [R, blocks, W], False in an empty slot.
    evaluate: bool [R], whether to evaluate after the round.
  """

  clients: np.ndarray
  occurrences: np.ndarray
  present: np.ndarray
  evaluate: np.ndarray


def plan_rounds(
    cohorts: Sequence[np.ndarray],
    evaluate: Sequence[bool],
    sizes: np.ndarray,
    *,
    lanes: int,
    num_blocks: int,
    num_rounds: int,
) -> Plan:
  """Packs cohorts into blocks, clients with most examples first.

  Sorting puts clients of like size side by side, so that few lanes wait.

  Args:
    cohorts: int32 [M] client numbers of each round.
    evaluate: for each of these rounds.
    sizes: int [N], examples of every client.
    lanes: W.
    num_blocks: blocks a round; `num_blocks * lanes` slots must hold a cohort.
    num_rounds: R, at least `len(cohorts)`; rounds beyond are empty.
  """
  shape = num_rounds, num_blocks * lanes
  clients = np.zeros(shape, np.int32)
  occurrences = np.zeros(shape, np.int32)
  present = np.zeros(shape, bool)
  for i, cohort in enumerate(cohorts):
    if len(cohort) > shape[1]:
      raise ValueError(f'a cohort of {len(cohort)} clients does not fit into '
                       f'{num_blocks} blocks of {lanes} lanes.')
    order = np.argsort(-sizes[cohort], kind='stable')
    clients[i, :len(cohort)] = np.asarray(cohort)[order]
    occurrences[i, :len(cohort)] = count_occurrences(cohort)[order]
    present[i, :len(cohort)] = True
  flags = np.zeros(num_rounds, bool)
  flags[:len(evaluate)] = evaluate
  blocks = num_rounds, num_blocks, lanes
  return Plan(clients.reshape(blocks), occurrences.reshape(blocks),
              present.reshape(blocks), flags)


def count_occurrences(cohort: np.ndarray) -> np.ndarray:
  """For each entry, how many equal entries come before it: int32 [M]."""
  order = np.argsort(cohort, kind='stable')
  ranked = np.asarray(cohort)[order]
  starts = np.flatnonzero(np.r_[True, ranked[1:] != ranked[:-1]])
  counts = np.zeros(len(ranked), np.int32)
  lengths = np.diff(np.r_[starts, len(ranked)])
  counts[order] = np.arange(len(ranked)) - np.repeat(starts, lengths)
  return counts


def blocks_for(cohort_size: int, lanes: int) -> int:
  """How many blocks of `lanes` hold a cohort."""
  return -(-cohort_size // lanes)


def evaluate_after(eval_every: int, last_round: int) -> Callable[[int], bool]:
  """Whether to evaluate after a round (from 0): every n-th, and the last."""
  return lambda r: (r + 1) % eval_every == 0 or r + 1 == last_round
