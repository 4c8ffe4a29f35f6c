"""Sends single updates through a transform, for tests."""

import jax
import numpy as np
from jax import numpy as jnp

from fedjax_sim.aggregation.chain import nobody
from fedjax_sim.core import costs
from fedjax_sim.core.types import Keys, Message

KEYS = Keys(jax.random.key(1), jax.random.key(2))


def message_of(update, **fields):
  """As the engine gives it to a transform."""
  sent = fields.get('sent')
  return Message(update, jnp.float32(2), jnp.array(True),
                 cost=costs.of(update, sent))._replace(**fields)


def send(part, update, keys=KEYS, **fields):
  """The message that travels, from a client without memory."""
  return send_and_receive(part, update, keys, **fields)[0]


def receive(part, update, keys=KEYS):
  """What the server makes of it."""
  return send_and_receive(part, update, keys)[1]


def send_and_receive(part, update, keys=KEYS, **fields):
  def both(update, keys, fields):
    message = message_of(update, **fields)
    state = part.init(message, 1, keys.round)
    sent, _ = part.client(
        message, state, part.client_init(message), keys, nobody(1))
    return sent, part.decode(sent.update, state, keys.round, update)
  return jax.jit(both)(update, keys, fields)


def draws(part, x, number, seed=0):
  """`receive` of an array with many keys: float64 [number, ...]."""
  keys = jax.random.split(jax.random.key(seed), (number, 2))
  return np.asarray(jax.jit(jax.vmap(
      lambda pair: receive(part, x, Keys(*pair))))(keys), np.float64)


def is_biased(drawn, x):
  """Whether the mean of draws [number, n] differs from x by more than chance.

  It looks at the coordinates together, whose squared errors add up to their
  variance, and at the part along x, which finds a wrong scale.
  """
  errors = drawn - x

  def score(errors, scale):  # [number, n]
    rounding = (1e-6 * scale) ** 2
    variance = errors.var(0) / len(errors) + rounding
    excess = np.sum(errors.mean(0) ** 2) - np.sum(variance)
    return excess / np.sqrt(2 * np.sum(variance ** 2))

  # One squared is above 30 as seldom as a normal number is above 5.5.
  return (score(errors, np.abs(x).max()) > 6
          or score(errors @ x[:, None], x @ x) > 21)
