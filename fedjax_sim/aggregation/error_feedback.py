"""Error feedback: what compression loses is added to the next update.

Client k keeps e_k, zero at first. In a round in which it takes part it sends

    p_k = update_k + e_k
    c_k = C(p_k)
    e_k = p_k - c_k

so that over its rounds the sum of what it sent, and what it keeps, is the sum
of its updates. A biased compressor such as `top_k` only delays what it does not
send. Seide, Fu, Droppo, Li, Yu, "1-Bit Stochastic Gradient Descent and its
Application to Data-Parallel Distributed Training of Speech DNNs" (2014); Stich,
Cordonnier, Jaggi, "Sparsified SGD with Memory" (2018), algorithm 1;
Karimireddy, Rebjock, Stich, Jaggi, "Error Feedback Fixes SignSGD and other
Gradient Compression Schemes" (2019), algorithm 2, whose update is gamma g.

Clients that are seldom drawn: e_k waits until the client is drawn again. With a
fraction C of the clients in a round that takes 1 / C rounds on average, and
what is sent then was computed at models as old. What a client keeps that is
never drawn again is lost. With rare clients and strong compression that is
much, and an unbiased compressor, which needs no memory, may do better.

The memory is as large as an update, for each client of the federation. Where a
client may train one of several models (`Message.group`), as in IFCA, e_k is of
the model that it trained last: a client that changes to another model begins
with zero, since what it owes to one must not be paid to the other.
"""

import jax
from jax import numpy as jnp

from fedjax_sim.aggregation import contraction, kinds
from fedjax_sim.aggregation.chain import chain
from fedjax_sim.aggregation.encodings import Encoding, Kind
from fedjax_sim.core import precision, trees
from fedjax_sim.core.types import Keys, Message, MessageTransform


def error_feedback(*compressors: MessageTransform) -> MessageTransform:
  """Adds to each client's update what was lost of its earlier ones.

  Example: `error_feedback(top_k(0.01))`, or of a chain,
  `error_feedback(top_k(0.01) | quantize(4))` in a config.

  Entries that do not travel (`Message.sent`, of a restriction of training) keep
  their memory. A client whose message does not arrive, or whose update is not
  finite, keeps the memory that it had.

  Args:
    *compressors: in order, as in `chain`, contractions (`contraction`). They
      are decoded on the client, too.

  Raises:
    ValueError: one is no transform of what clients send, or known to be no
      contraction; of a code of values, when a simulation is built.
  """
  inner = wrapped('error_feedback', compressors)

  def client(message: Message, state, memory, keys: Keys, cohort):
    (old, inner_memory, *before_group) = memory
    kept = _of_group(old, message.group, *before_group)
    travels = _travelling(message)
    total = trees.add(precision.wide(message.update), kept)
    total = jax.tree.map(
        lambda t, here: jnp.where(here, t, 0), total, travels)
    before = precision.narrow(total, message.update)
    sent, inner_memory = inner.client(
        message._replace(update=before), state, inner_memory, keys, cohort)
    read = inner.decode(sent.update, state, keys.round, before)
    rest = jax.tree.map(
        lambda t, r, here, k: jnp.where(here, t - precision.wide(r), k),
        total, read, travels, kept)
    group = [] if message.group is None else [message.group]
    rest = trees.where(
        trees.all_finite(rest), (rest, group), (old, before_group))
    return sent, (rest[0], inner_memory, *rest[1])

  return inner._replace(
      name='error_feedback', parts=(), client=client,
      encodings=(Encoding(
          'error_feedback', Kind.REPAYS, within=inner.encodings),),
      client_init=lambda message: (
          precision.wide_zeros(message.update), inner.client_init(message),
          *([] if message.group is None else [
              jnp.zeros(message.group.shape, bool)])))


def wrapped(
    name: str, compressors: tuple[MessageTransform, ...]
) -> MessageTransform:
  """The compressors as one, for a wrapper that decodes on the client.

  Its `init` raises where one is no contraction of vectors so long.

  Raises:
    ValueError: there is none, or one is no transform of what clients send, or
      no contraction of any update.
  """
  if not compressors:
    raise ValueError(f'{name} needs a compressor, as {name}(top_k(0.01)) has.')
  for given in compressors:
    kinds.check(f'an argument of {name}', given, MessageTransform,
                kinds.TRANSFORM)
    if given.broadcast is not None:
      raise ValueError(f'{name} takes transforms of what clients send, got '
                       f'{given.name!r}.')
  inner = chain(*compressors)
  odd = [x.name for x in inner.encodings if x.kind in (
      Kind.SCALES, Kind.REPAYS)]
  if odd:
    raise ValueError(f'{name} takes compressors, such as top_k(0.01), got '
                     f'{odd[0]!r}, which must stand before it in the chain.')
  contraction.check(name, inner.encodings)

  def init(message: Message, num_clients: int, key):
    contraction.check(name, inner.encodings, message.update)
    return inner.init(message, num_clients, key)

  return inner._replace(init=init)


def _of_group(kept, group: jax.Array | None, last: jax.Array | None = None):
  """What is kept of the model that the message is for.

  Args:
    kept: PyTree, of the model of the client's last message.
    group: bool [K], of the message; None for one model.
    last: that of the client's last message, if there are groups.
  """
  if group is None:
    return kept
  return trees.where(
      jnp.any(group & last), kept, jax.tree.map(jnp.zeros_like, kept))


def _travelling(message: Message):
  """Bools, or arrays of them that broadcast to the leaves of the update."""
  everything = jnp.ones((), bool)
  if message.sent is None:
    return jax.tree.map(lambda x: everything, message.update)
  return trees.map_prefix(
      lambda mask, x: mask.reshape(mask.shape + (1,) * (x.ndim - mask.ndim)),
      message.sent, message.update)
