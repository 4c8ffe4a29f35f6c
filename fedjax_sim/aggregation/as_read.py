"""For algorithms that must know what the server reads of each message.

Transforms may change a message after the algorithm's client has made it: clip
it, or send some of its entries. What an algorithm measures of an update is then
not that of the update which counts.
"""

from collections.abc import Callable

from fedjax_sim.core.types import (
    Aggregator,
    Keys,
    Message,
    PyTree,
    Scalars,
)


def as_read(
    aggregator: Aggregator | None,
    measure: Callable[[Message, PyTree], Scalars],
) -> Aggregator | None:
  """The aggregator, with sums of an algorithm measured on what is read.

  Args:
    aggregator: one that `needs.Need.SUM` accepts: the server reads each
      message. Without transforms it is returned as it is.
    measure: `(message, update) -> sums`, which replace those that the
      algorithm's client has given: the message before the transforms, with
      the algorithm's own sums, and its update as the server reads it.
  """
  if aggregator is None or aggregator.transform is None:
    return aggregator
  inner = aggregator.transform

  def client(message: Message, state, memory, keys: Keys, cohort):
    sent, memory = inner.client(message, state, memory, keys, cohort)
    read = inner.decode(sent.update, state, keys.round, message.update)
    own = message._replace(sums=message.sums['algorithm'])
    return sent._replace(
        sums={**sent.sums, 'algorithm': measure(own, read)}), memory

  return aggregator._replace(
      transform=inner._replace(client=client, parts=()))
