"""k random entries of an update, the others zero.

    sent_k = d / k update_k where the entry is among k drawn of d, else 0

without replacement, so that E sent_k = update_k and

    E |sent_k - update_k|^2 = (d / k - 1) |update_k|^2

Stich, Cordonnier, Jaggi, "Sparsified SGD with Memory" (2018), definition 2.1,
there without the factor d / k, which is `random_k(unbiased=False)`; Wangni,
Wang, Liu, Zhang, "Gradient Sparsification for Communication-Efficient
Distributed Optimization" (2018). `subsample` draws each entry by itself, and so
another number each time.
"""

from collections.abc import Callable

import jax
from jax import numpy as jnp

from fedjax_sim.aggregation import contraction, selection, vectors
from fedjax_sim.aggregation.encodings import Kind
from fedjax_sim.aggregation.transform import transform
from fedjax_sim.aggregation.value_code import SEED
from fedjax_sim.core import checks
from fedjax_sim.core.largest import largest
from fedjax_sim.core.types import Keys, Message, MessageTransform


def random_k(
    fraction: float | None = None, *, k: int | None = None,
    over: str = 'vector', shared: bool = False, unbiased: bool = True,
) -> MessageTransform:
  """Sends random entries, times d / k. Unbiased, whatever the update is.

  No indices travel: a client sends the seed of its draws, 32 bits. With
  `shared` there is none, since the draws come from the round's number.

  Args:
    fraction: in (0, 1], of the d entries: k is fraction * d, rounded, at
      least 1.
    k: how many, instead.
    over: 'vector' draws among all floating leaves together, 'leaf' k of each.
    shared: all clients of a round send the same entries. Their mean has no
      others then: its error does not fall with the number of clients.
    unbiased: False leaves out the factor d / k, for a wrapper that makes good
      what is lost: `error_feedback(random_k(0.01, unbiased=False))`. With the
      factor, the memory would grow without bound where k <= d / 2.

  Raises:
    ValueError: not one of `fraction` and `k` is given, or one is out of range;
      when a simulation is built, `k` is more than there are entries.
  """
  number = selection.number_of('random_k', fraction, k)
  vectors.check_over(over)
  checks.boolean('shared', shared)
  checks.boolean('unbiased', unbiased)

  def client(message: Message, state, memory, keys: Keys, cohort):
    del state, cohort
    key, chosen = keys.round if shared else keys.client, []
    for i, x in enumerate(vectors.of(message.update, over)):
      k = number(x.size)
      mask = largest(
          jax.random.bits(jax.random.fold_in(key, i), x.shape, jnp.uint32), k)
      chosen.append(selection.Selected(
          mask, k, x.size / k if unbiased else 1, 0 if shared or i else SEED))
    return selection.message_of(message, chosen, over), memory

  return transform('random_k', client=client, encodes=(Kind.SELECTS,),
                   lacks='' if not unbiased else _lacks(fraction, number, over))


def _lacks(fraction: float | None, number: Callable[[int], int], over: str):
  """The error of all vectors is d / k - 1 of their squared length."""
  cure = 'with unbiased=False'
  if fraction is not None and fraction <= 0.5:
    return cure
  return contraction.of_vectors(
      over, lambda d: cure if 2 * number(d) <= d else '')
