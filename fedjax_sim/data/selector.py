"""Selection by what clients have told: who takes part depends on losses.

A `Selector` is asked before each round, once the rounds before it are done. So
a compiled dispatch holds one round, and nothing is planned ahead.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from fedjax_sim.core import random

# What clients can be asked to tell of a round in which they took part.
HEARS = (None, 'loss', 'squares')


class Question(NamedTuple):
  """Who is to take part in a round.

  Attributes:
    round: its number, from 0.
    count: how many clients to choose.
    among: int [n], the clients that can be chosen; None for all.
    measure: `(clients int [n]) -> float64 [n]`, their mean losses with the
      present model. It is called once at most.
    seconds: float64 [N], what a round is known to take each client beforehand,
      infinity for one that has nothing to do; None where rounds take no time.
  """

  round: int
  count: int
  among: np.ndarray | None
  measure: Callable[[np.ndarray], np.ndarray]
  seconds: np.ndarray | None = None


class Feedback(NamedTuple):
  """What the clients of a round have told, those whose messages counted.

  Attributes:
    round: its number, from 0.
    clients: int [n], ascending.
    values: float64 [n]; what it is says `Selector.hears`.
  """

  round: int
  clients: np.ndarray
  values: np.ndarray


class Selector(NamedTuple):
  """Chooses cohorts by what is known of clients so far.

  Attributes:
    init: `() -> memory`, a PyTree of NumPy arrays; checkpoints hold it.
    choose: `(memory, Question) -> (int [count], memory)`. The same memory,
      round and losses always give the same clients.
    learn: `(memory, Feedback) -> memory`.
    settings: in words, all that the choice depends on besides.
    hears: what `Feedback` holds: 'loss', the mean loss of local training over
      all of its steps; 'squares', the mean over a client's examples of the
      squared loss with the round's model, before the first step; None for
      nothing.
    candidates: the most clients whose losses are measured for a round.
    batch_size: examples of a client on which they are; None for all.
    share: what measuring on all examples takes, of the time of a client's local
      steps in a round.
    of_time: arguments that were given, such as 'pacer_step', and have an effect
      only where rounds take time.
  """

  init: Callable[[], Any]
  choose: Callable[[Any, Question], tuple[np.ndarray, Any]]
  learn: Callable[[Any, Feedback], Any]
  settings: str
  hears: str | None = None
  candidates: int = 0
  batch_size: int | None = None
  share: float = 0.0
  of_time: tuple[str, ...] = ()


def by_losses(builder: Callable[..., Any]) -> Callable[..., Any]:
  """Marks a builder of samplers that choose by losses.

  The runs of a sweep over such a sampler go one after the other, since each
  chooses by its own model.
  """
  builder.by_losses = True
  return builder


def generator(seed: int, round_number: int) -> np.random.Generator:
  """Draws of a round; those of `sampling` have other words."""
  words = [*random.words(seed, round_number), 1]
  return np.random.Generator(np.random.Philox(np.random.SeedSequence(words)))


def knowing_nothing(
    selector: Selector, count: int
) -> Callable[[int], np.ndarray]:
  """`(round) -> int32 [M]`: whom it would choose if all losses were alike."""
  def sample(round_number: int) -> np.ndarray:
    chosen, _ = selector.choose(selector.init(), Question(
        round_number, count, None, lambda clients: np.zeros(len(clients))))
    return chosen.astype(np.int32)
  return sample
