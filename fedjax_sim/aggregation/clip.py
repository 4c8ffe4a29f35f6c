"""Clipping of a client's update to an L2 norm, fixed or adaptive."""

import jax
from jax import numpy as jnp

from fedjax_sim.aggregation.encodings import Kind
from fedjax_sim.aggregation.transform import transform
from fedjax_sim.core import checks, precision, specs
from fedjax_sim.core.types import Aggregate, Message, MessageTransform, PyTree


@specs.traceable('norm')
def clip(norm: float) -> MessageTransform:
  """Scales updates that are longer than `norm` down to it.

  update * min(1, norm / |update|), |.| the L2 norm over all leaves, model state
  included (McMahan et al., "Learning Differentially Private Recurrent Language
  Models", 2018, FlatClip). Shorter updates, a zero one among them, keep their
  bits. An update that is not finite stays so, and the round reports it.

  Args:
    norm: positive; may be traced.

  Raises:
    ValueError: an argument is out of range.
  """
  checks.positive('norm', norm)

  def client(message: Message, state, memory, keys, cohort):
    del state, keys, cohort
    update = shortened(message.update, norm, length(message.update))
    return message._replace(update=update), memory

  return transform('clip', client=client, encodes=(Kind.SCALES,))


@specs.traceable('norm', 'quantile', 'learning_rate')
def adaptive_clip(
    norm: float = 0.1, *, quantile: float = 0.5, learning_rate: float = 0.2
) -> MessageTransform:
  """Clips to a norm that follows a quantile of the clients' norms.

    b_k = 1 if |update_k| <= C_t, else 0
    C_{t+1} = C_t exp(-eta (mean_k b_k - quantile))

  Andrew, Thakkar, McMahan, Ramaswamy, "Differentially Private Learning with
  Adaptive Clipping" (2021), algorithm 1, without its noise on mean_k b_k. A
  round without clients leaves the norm. The record has `norm`, that of the
  round, and `below`, the mean of b_k.

  Args:
    norm: C_0, positive.
    quantile: in [0, 1]; the share of updates that are not clipped.
    learning_rate: eta, positive.

  Raises:
    ValueError: an argument is out of range.
  """
  checks.positive('norm', norm)
  checks.fraction('quantile', quantile)
  checks.positive('learning_rate', learning_rate)

  def client(message: Message, current, memory, keys, cohort):
    del keys, cohort
    own = length(message.update)
    return message._replace(
        update=shortened(message.update, current, own),
        sums={'below': (own <= current).astype(precision.scalar())}), memory

  def server(aggregate: Aggregate, current, key, cohort):
    del key, cohort
    below = aggregate.sums['below'] / jnp.maximum(aggregate.count, 1)
    following = current * jnp.exp(-learning_rate * (below - quantile))
    following = jnp.where(aggregate.count > 0, following, current)
    return aggregate, following, {'norm': current, 'below': below}

  return transform(
      'adaptive_clip',
      init=lambda message, num_clients, key: jnp.asarray(
          norm, precision.scalar()),
      client=client, server=server, encodes=(Kind.SCALES,))


def length(update: PyTree) -> jax.Array:
  """The L2 norm over all leaves, in float32 or wider."""
  return jnp.sqrt(sum(
      jnp.sum(jnp.square(precision.wide(x)))
      for x in jax.tree.leaves(update)))


def shortened(update: PyTree, norm, own: jax.Array) -> PyTree:
  """An update of length `own`, scaled down to `norm` if that is less."""
  factor = norm / jnp.maximum(own, norm)
  return jax.tree.map(
      lambda x: (factor * x).astype(x.dtype), update)
