"""`transform`: a `MessageTransform` from the parts that it needs."""

from collections.abc import Callable

import jax

from fedjax_sim.aggregation.encodings import Encoding, Kind, Lacks
from fedjax_sim.core.types import Message, MessageTransform


def transform(
    name: str,
    *,
    init: Callable = lambda message, num_clients, key: (),
    client_init: Callable = lambda message: (),
    client: Callable | None = None,
    decode: Callable | None = None,
    server: Callable | None = None,
    broadcast: Callable | None = None,
    encodes: tuple[Kind, ...] = (),
    lacks: Lacks = '',
) -> MessageTransform:
  """Builds a transform; what is not given does nothing.

  Args:
    name: what its keys, sums, metrics and states are found by.
    init: as in `MessageTransform`, like the next ones.
    client_init: the memory of each client.
    client: changes a message. It finds its own sums, none yet, in
      `message.sums`.
    decode: undoes what `client` has encoded.
    server: `(aggregate, state, key, cohort) -> (aggregate, state, metrics)`.
      The mean is decoded, and `aggregate.sums` are the transform's own. It is
      not given `sent`, which `MessageTransform.server` needs for decoding.
    broadcast: changes what the server sends.
    encodes: what `client` does to the values of an update, which says where in
      a chain the transform may stand.
    lacks: what the encoding lacks to be a contraction, as in
      `encodings.Encoding`. What says '' is taken for one by `error_feedback`
      and `ef21`.

  Example, which halves every update:

    transform('halve', client=lambda message, state, memory, keys, cohort: (
        message._replace(update=jax.tree.map(lambda u: u / 2, message.update)),
        memory))
  """
  def decode_and_serve(aggregate, state, key, cohort, sent: Message):
    if decode is not None:
      one = lambda mean: decode(mean, state, key, sent.update)
      # With groups there is a mean for each.
      many = one if sent.group is None else jax.vmap(one)
      aggregate = aggregate._replace(mean=many(aggregate.mean))
    if server is None:
      return aggregate, state, {}
    return server(aggregate, state, key, cohort)

  unchanged = lambda message, state, memory, keys, cohort: (message, memory)
  return MessageTransform(
      name=name, init=init, client_init=client_init,
      client=client or unchanged,
      decode=decode or (lambda update, state, key, like: update),
      server=decode_and_serve, broadcast=broadcast,
      encodings=tuple(
          Encoding(name, kind, lacks=lacks) for kind in encodes))


def identity() -> MessageTransform:
  """Changes nothing."""
  return transform('identity')
