"""Parts of an aggregation whose functions are held to what they promise.

A shape that is wrong would often be broadcast, and training go on with
nonsense; a missing value would fail in a place that names no part.
"""

import jax

from fedjax_sim.core import contracts
from fedjax_sim.core.types import (
    Aggregate,
    Keys,
    Message,
    MessageTransform,
    PyTree,
)


def checked(name: str, part: MessageTransform) -> MessageTransform:
  """The transform, whose functions raise where they break its contract.

  Args:
    name: by which errors call it.
    part: any transform.
  """
  who = lambda function: f"transform {name!r}: its {function}"

  def client(message: Message, state, memory, keys: Keys, cohort):
    by = who('client')
    got = contracts.items(
        by, contracts.call(by, part.client, message, state, memory, keys,
                           cohort), '(message, memory)')
    _check_message(by, got[0])
    contracts.same(by, 'a memory', got[1], memory, 'the one it was given, '
                   'which begins as client_init says')
    return got

  def server(aggregate: Aggregate, state, key, cohort, sent: Message):
    by = who('server')
    got = contracts.items(
        by, contracts.call(by, part.server, aggregate, state, key, cohort,
                           sent), '(aggregate, state, metrics)')
    check_aggregate(who('server or decode'), got[0], sent,
                    'the update that its client was given')
    contracts.same(by, 'a state', got[1], state, 'the one it was given, which '
                   'begins as init says')
    contracts.scalars(by, got[2])
    return got

  def broadcast(message: PyTree, state, key):
    by = who('broadcast')
    got = contracts.items(
        by, contracts.call(by, part.broadcast, message, state, key),
        '(message, state, bits)')
    contracts.same(by, 'a message', got[0], message, 'the one it was given')
    contracts.same(by, 'a state', got[1], state, 'the one it was given, which '
                   'begins as init says')
    return got

  return part._replace(
      client=client, server=server, broadcast=part.broadcast and broadcast)


def check_aggregate(
    by: str, aggregate: Aggregate, message: Message, of: str
) -> None:
  """ValueError unless the mean is like an update of a message.

  Args:
    by: who has made it.
    aggregate: what was made.
    message: one client's, arrays or shapes.
    of: what its update is, for the error.
  """
  contracts.instance(by, aggregate, Aggregate)
  update = message.update
  if message.group is not None:
    groups = message.group.shape[-1:]
    update = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct((*groups, *x.shape), x.dtype), update)
  contracts.same(by, 'a mean', aggregate.mean, update, of, dtypes=False)


def _check_message(by: str, message: Message) -> None:
  contracts.instance(by, message, Message, 'message')
  contracts.arrays(by, "the message's update", message.update)
