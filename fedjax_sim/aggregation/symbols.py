"""The bits of symbols, when they are numbered and each value has one."""

import jax
from jax import numpy as jnp

from fedjax_sim.aggregation.value_code import Vector
from fedjax_sim.core import checks, coders

CODERS = ('entropy', 'fixed')


def check(coder: str) -> None:
  """ValueError unless it is a coder of symbols."""
  checks.one_of('coder', coder, CODERS)


def bits(
    coder: str, vector: Vector, symbols: jax.Array, number: int
) -> float | jax.Array:
  """What the symbols of the values that travel take.

  Args:
    coder: 'fixed' takes log2 `number` bits a value if that is whole, else packs
      as many digits into 32 bits as there is room for; 'entropy' is an
      arithmetic coder with the counts of symbols (`coders.entropy`).
    vector: whose values they are.
    symbols: integers [n] below `number`.
    number: how many there may be.

  Returns:
    A Python number where it does not depend on the client.
  """
  if coder == 'entropy':
    if vector.sent is not None:
      symbols = jnp.where(vector.sent, symbols, number)
    return coders.entropy(symbols.astype(jnp.int32), number)
  if number & (number - 1) == 0:
    return vector.count * (number.bit_length() - 1)
  return coders.digits(vector.count, number)
