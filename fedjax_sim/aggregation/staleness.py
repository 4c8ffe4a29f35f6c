"""How much a late report counts: functions of its lag, and a mean by them.

A report's lag is the number of server steps since its client was sent the
model; 0 for one that began with the newest model. All functions are 1 there.

    constant      s(lag) = 1
    polynomial    s(lag) = (1 + lag)^-a
    hinge         s(lag) = 1 up to b, then 1 / (1 + a (lag - b))

Xie, Koyejo, Gupta, "Asynchronous Federated Optimization" (2019), whose t - tau
is counted here from 0 for a model that is not late.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
from jax import numpy as jnp

from fedjax_sim.aggregation import needs
from fedjax_sim.core import checks, precision, specs, trees
from fedjax_sim.core.types import Aggregator, Message

__all__ = ['Staleness', 'constant', 'discounted', 'hinge', 'polynomial']


class Staleness(NamedTuple):
  """How much a report counts by its lag.

  Attributes:
    name: of the function.
    factor: `(lag int32 or float32 [...]) -> float32 [...]`, in (0, 1].
  """

  name: str
  factor: Callable[[jax.Array], jax.Array]


def constant() -> Staleness:
  """Late reports count like others."""
  return Staleness('constant', lambda lag: jnp.ones_like(
      precision.floats(jnp.asarray(lag))))


@specs.traceable('a')
def polynomial(a: float = 0.5) -> Staleness:
  """(1 + lag)^-a.

  Args:
    a: positive; 0.5 is that of FedBuff, 1 / sqrt(1 + lag).
  """
  checks.positive('a', a)
  return Staleness('polynomial', lambda lag: (
      1 + precision.floats(jnp.asarray(lag))) ** -a)


@specs.traceable('a', 'b')
def hinge(a: float = 10.0, b: float = 4.0) -> Staleness:
  """1 up to a lag of b, then 1 / (1 + a (lag - b)).

  Args:
    a: how fast it falls, positive.
    b: the lag up to which a report counts in full, at least 0.
  """
  checks.positive('a', a)
  checks.non_negative('b', b)
  return Staleness('hinge', lambda lag: 1 / (
      1 + a * jnp.maximum(precision.floats(jnp.asarray(lag)) - b, 0)))


def discounted(aggregator: Aggregator, staleness: Staleness) -> Aggregator:
  """The aggregator, with each message's update times s(lag) on the server.

  The weights stay as they are. So of the weighted mean it makes sum_k weight_k
  s(lag_k) update_k / sum_k weight_k: late reports count less, and
  the others' weights are not raised to make up for it.

  Raises:
    ValueError: a transform adds up on the server what is sent, as `ef21` does;
      when used, messages are whole numbers, such as masked ones.
  """
  inner, total = aggregator.reducer, needs.adding(aggregator.transform)
  if total:
    raise ValueError(
        f'uplink must not have {total!r} where staleness discounts messages: '
        'its clients and the server would add up different ones. Use '
        'error_feedback, such as error_feedback(top_k(0.01)).')

  def accumulate(accumulator, messages: Message):
    lag = messages.slot and messages.slot.lag
    if lag is None:
      return inner.accumulate(accumulator, messages)
    factor = staleness.factor(lag)
    return inner.accumulate(accumulator, messages._replace(
        update=precision.narrow(
            trees.scale_rows(messages.update, factor), messages.update)))

  def init(message: Message, num_slots: int):
    for x in jax.tree.leaves(message.update):
      if not jnp.issubdtype(x.dtype, jnp.inexact):
        raise ValueError(
            'aggregate: messages must be floats, which staleness can discount, '
            f'got {x.dtype}, such as masked_mean has; an algorithm that '
            'discounts none, such as fedavg, takes these.')
    return inner.init(message, num_slots)

  return aggregator._replace(reducer=inner._replace(
      init=init, accumulate=accumulate, plain=False, linear=False,
      name=f'{inner.name} discounted by staleness'))
