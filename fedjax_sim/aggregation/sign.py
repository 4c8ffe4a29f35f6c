"""Signs of updates, and a vote on them.

    sent_k = sign(update_k),    step = sign(sum_k sent_k)

Bernstein, Wang, Azizzadenesheli, Anandkumar, "signSGD: Compressed Optimisation
for Non-Convex Problems" (2018), algorithm 3, "signSGD with majority vote":
`uplink = 'sign_sgd'` with `reduce = 'majority_vote'`. The step has size 1 in
every coordinate, so the server's rate says how far it goes.

Biased: only in which direction is said, not how far. Without a vote the mean of
signs is the aggregate. With `scaled`, sent_k = (|v|_1 / n) sign(v), which error
feedback needs: Karimireddy, Rebjock, Stich, Jaggi, "Error Feedback Fixes
SignSGD and other Gradient Compression Schemes" (2019), algorithm 1.
"""

import jax
from jax import numpy as jnp

from fedjax_sim.aggregation import tally
from fedjax_sim.aggregation.value_code import Coded, Vector, value_code
from fedjax_sim.core import checks, precision, trees
from fedjax_sim.core.types import Aggregate, Message, MessageTransform, Reducer


def sign_sgd(
    *, scaled: bool = False, over: str = 'leaf'
) -> MessageTransform:
  """Sends the sign of each value, in one bit.

  One bit has no third value: of a zero the sign is drawn, plus and minus as
  often.

  Args:
    scaled: times the mean absolute value of each vector, a float that travels.
    over: 'leaf' or 'vector'; with `scaled` it says what has a mean of its own,
      which changes results.

  Raises:
    ValueError: an argument is out of range.
  """
  checks.boolean('scaled', scaled)

  def code(vector: Vector, key) -> Coded:
    fair = jax.random.rademacher(
        key, vector.values.shape, vector.values.dtype)
    signs = jnp.where(vector.values == 0, fair, jnp.sign(vector.values))
    if not scaled:
      return Coded(signs, vector.count, 0)
    mean = jnp.sum(jnp.abs(vector.values)) / jnp.maximum(vector.count, 1)
    return Coded(mean * signs, vector.count, vector.scalar_bits)

  return value_code('sign_sgd', code, over=over,
                    lacks='' if scaled else 'with scaled=True')


def majority_vote() -> Reducer:
  """The sign of the sum of the signs of the updates of those present.

  Each client has one vote in each coordinate, whatever its weight. A tie is
  zero, as is the vote of nobody; a NaN stays one.
  """
  def init(message: Message, num_slots: int):
    del num_slots
    return precision.wide_zeros(message.update), tally.init(message)

  def accumulate(accumulator, messages: Message):
    total, counted = accumulator
    votes = jax.tree.map(jnp.sign, messages.update)
    return (trees.add(total, tally.sum_present(messages, votes)),
            tally.add(counted, messages))

  def finalize(accumulator, state, broadcast, key):
    del broadcast, key
    total, counted = accumulator
    step = jax.tree.map(jnp.sign, total)
    return Aggregate(step, counted.weight, counted.weight, counted.count,
                     counted.sums), state, {}

  return Reducer(init, accumulate, trees.add, finalize,
                 name='majority_vote()')
