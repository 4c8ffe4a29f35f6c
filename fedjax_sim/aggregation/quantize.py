"""Quantization of an update's values between the least and the greatest.

With k = 2^bits levels from min to max and step s = (max - min) / (k - 1),

    q(x) = min + s floor((x - min) / s + u),    u uniform in [0, 1)

so that E q(x) = x and Var q(x) = (x - l)(l + s - x) <= s^2 / 4, l the level
below x. Konečný, McMahan, Yu, Richtárik, Suresh, Bacon, "Federated Learning:
Strategies for Improving Communication Efficiency" (2016), section 3,
"probabilistic quantization"; Suresh, Yu, Kumar, McMahan, "Distributed Mean
Estimation with Limited Communication" (2017), section 2.2, lemma 2. Konečný et
al. divide the range into 2^bits intervals, which have one end more than `bits`
bits can say; here there are 2^bits ends, which is theirs for one bit.

Clients are independent of each other, so the error of a mean falls with their
number. With `rotate` before it the range is small. Of n values the squared
error is at most (n - 2) / (2 (k - 1)^2) |x|^2, since the two ends are exact and
their squares at least (max - min)^2 / 2; two ends around zeros attain it. So it
is a contraction where n - 2 < 2 (k - 1)^2. FedPAQ (Reisizadeh,
Mokhtari, Hassani, Jadbabaie, Pedarsani, 2020, algorithm 1) is `quantize` or
`qsgd` of what local training gives.
"""

import itertools

from jax import numpy as jnp

from fedjax_sim.aggregation import symbols
from fedjax_sim.aggregation.value_code import (
    Coded,
    Vector,
    rounded_randomly,
    value_code,
)
from fedjax_sim.core import checks
from fedjax_sim.core.types import MessageTransform


def quantize(
    bits: int, *, stochastic: bool = True, coder: str = 'fixed',
    over: str = 'leaf',
) -> MessageTransform:
  """Rounds each value to one of 2^bits levels between min and max.

  What travels: the range, two floats, for each vector, and its levels. Where
  all values are the same, they are exact.

  Args:
    bits: 1 to 16.
    stochastic: up or down at random, with the value as the mean. False rounds
      to the nearest level, which has less variance and is biased: with few bits
      most values of an update would become the same.
    coder: 'fixed' takes `bits` bits a value; 'entropy' is an arithmetic coder,
      which takes less where levels in the middle come more often.
    over: 'leaf' has a range for each floating leaf, as the paper has for each
      matrix; 'vector' one for all of them, which changes results: a layer of
      small updates gets few levels, but there is one range to send.

  Raises:
    ValueError: an argument is out of range.
  """
  steps = 2 ** checks.at_least('bits', bits, 1, 16) - 1
  checks.boolean('stochastic', stochastic)
  symbols.check(coder)

  def code(vector: Vector, key) -> Coded:
    low = vector.among_sent(jnp.min, jnp.inf)
    high = vector.among_sent(jnp.max, -jnp.inf)
    step = (high - low) / steps
    place = (vector.values - low) / jnp.where(step > 0, step, 1)
    level = rounded_randomly(place, key) if stochastic else jnp.round(place)
    level = jnp.where(step > 0, jnp.clip(level, 0, steps), 0)
    number = symbols.bits(coder, vector, level, steps + 1)
    return Coded(low + step * level, number, 2 * vector.scalar_bits)

  def lacks(n: int) -> str:
    if n - 2 < 2 * steps ** 2:
      return ''
    need = next(b for b in itertools.count(bits) if (
        n - 2 < 2 * (2 ** b - 1) ** 2))
    return f'for {n} values with bits={need} or more, or after rotate'

  return value_code('quantize', code, over=over, lacks=lacks)
