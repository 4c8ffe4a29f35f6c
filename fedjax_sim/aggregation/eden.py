"""EDEN: rotated values in a few bits, by the best levels for normal numbers.

With R_k a random rotation of client k's own, in this round, and z = R_k v,

    sent_k = S R_k^T Q(sqrt(n) z / |v|),    S = |v|^2 / <z, Q(sqrt(n) z / |v|)>

Q takes each number to the nearest of 2^bits levels, those with the least mean
squared error for a standard normal number (Lloyd 1982, Max 1960). Vargaftik,
Ben-Basat, Portnoy, Mendelson, Ben-Itzhak, Mitzenmacher, "EDEN: Communication-
Efficient and Robust Distributed Mean Estimation for Federated Learning" (2022),
algorithm 1, with theorem 2.1's scale. With one bit it is DRIVE; what is said
there of the Hadamard transform, of being unbiased, and of means is so here.
"""

import functools

import numpy as np
from jax import numpy as jnp
from scipy import special

from fedjax_sim.aggregation import symbols
from fedjax_sim.aggregation.drive_signs import rotated_code
from fedjax_sim.aggregation.value_code import Vector
from fedjax_sim.core import checks
from fedjax_sim.core.types import MessageTransform


def eden(
    bits: int, *, unbiased: bool = True, coder: str = 'fixed',
    over: str = 'leaf',
) -> MessageTransform:
  """Sends some bits for each value of a rotated vector.

  What travels: `bits` bits for each of the P values, n padded to a power of
  two; a float, S, for each vector; a seed of 32 bits for the rotations of a
  client. It takes all values of an update, as they are before any other code.

  Args:
    bits: 1 to 16. (The paper also has fractions of a bit.)
    unbiased: False takes the scale with the least error of one message,
      S = <z, Q> / |Q|^2.
    coder: 'fixed', or 'entropy' for an arithmetic coder: levels in the middle
      come more often.
    over: 'leaf' rotates each floating leaf on its own, with its own S; 'vector'
      all of them as one, which changes results.

  Raises:
    ValueError: an argument is out of range.
  """
  checks.at_least('bits', bits, 1, 16)
  checks.boolean('unbiased', unbiased)
  symbols.check(coder)

  def rounded(z):
    levels = jnp.asarray(normal_levels(bits), z.dtype)
    edges = (levels[1:] + levels[:-1]) / 2
    number = jnp.searchsorted(
        edges, z, side='right', method='compare_all' if bits <= 4 else 'scan')
    return levels[number], symbols.bits(
        coder, Vector(z, None), number, len(levels))

  return rotated_code('eden', rounded, unbiased=unbiased, over=over)


@functools.cache
def normal_levels(bits: int) -> np.ndarray:
  """The 2^bits levels with the least squared error for a normal number.

  Lloyd's iteration: edges between the levels, then the mean of what lies
  between two edges. It starts from the best levels in the limit of many, where
  their density is that of N(0, 3) (Panter and Dite 1951), and stops short of
  the limit where there are many: then they are as good to four digits.
  """
  number = 2 ** bits
  levels = np.sqrt(3) * special.ndtri((np.arange(number) + 0.5) / number)
  for _ in range(1000 if bits <= 8 else 20):
    edges = np.concatenate([
        [-np.inf], (levels[1:] + levels[:-1]) / 2, [np.inf]])
    density = np.exp(-edges ** 2 / 2) / np.sqrt(2 * np.pi)
    means = -np.diff(density) / np.diff(special.ndtr(edges))
    below = means[:number // 2]  # Above zero, ndtr has too few digits left.
    levels = np.concatenate([below, -below[::-1]])
  return levels
