"""Clipping of a client's update to an L2 norm."""

import jax
from jax import numpy as jnp

from fedjax_sim.aggregation.compose import identity
from fedjax_sim.core import checks
from fedjax_sim.core.types import Message, MessageTransform


def clip(norm: float) -> MessageTransform:
  """Scales updates that are longer than `norm` down to it.

  update * min(1, norm / |update|), |.| the L2 norm over all leaves, model state
  included (McMahan et al., "Learning Differentially Private Recurrent Language
  Models", 2018, FlatClip). Shorter updates, a zero one among them, keep their
  bits. An update that is not finite stays so, and the round reports it.

  Args:
    norm: positive; may be traced.
  """
  checks.positive('norm', norm)

  def client(message: Message, state, client_state, key):
    del state, key
    length = jnp.sqrt(sum(
        jnp.sum(jnp.square(x.astype(jnp.float32)))
        for x in jax.tree.leaves(message.update)))
    factor = norm / jnp.maximum(length, norm)
    update = jax.tree.map(
        lambda x: (factor * x).astype(x.dtype), message.update)
    return message._replace(update=update), client_state

  return identity()._replace(client=client)
