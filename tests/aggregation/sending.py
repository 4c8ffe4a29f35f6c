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
  def one(update, keys, fields):
    message = message_of(update, **fields)
    state = part.init(message, 1, keys.round)
    return part.client(
        message, state, part.client_init(message), keys, nobody(1))[0]
  return jax.jit(one)(update, keys, fields)


def receive(part, update, keys=KEYS):
  """What the server makes of it."""
  def one(update, keys):
    state = part.init(message_of(update), 1, keys.round)
    sent = send(part, update, keys)
    return part.decode(sent.update, state, keys.round, update)
  return jax.jit(one)(update, keys)


def draws(part, x, number, seed=0):
  """`receive` of an array with many keys: float64 [number, ...]."""
  keys = jax.random.split(jax.random.key(seed), (number, 2))
  return np.asarray(jax.jit(jax.vmap(
      lambda pair: receive(part, x, Keys(*pair))))(keys), np.float64)


def is_biased(part, x, number=4000):
  """Whether the mean of many draws differs from x by more than chance.

  It looks at the coordinates together, whose squared errors add up to a
  chi-squared number, and at the part along x, which finds a wrong scale.
  """
  x = np.asarray(x, np.float64)
  errors = draws(part, jnp.asarray(x, jnp.float32), number) - x

  def scores(errors):  # [number, n] -> [n]
    deviation = errors.std(0) / np.sqrt(number)
    same = errors[0] == errors.mean(0)  # Exact, but for rounding.
    exact = same & (np.abs(errors[0]) < 1e-5 * np.abs(x).max())
    return np.where(exact, 0, errors.mean(0) / np.maximum(
        deviation, 1e-9 * np.abs(x).max()))

  each = scores(errors)
  together = (np.sum(each ** 2) - x.size) / np.sqrt(2 * x.size)
  along = scores(errors @ x[:, None])[0]
  return together > 5 or abs(along) > 5
