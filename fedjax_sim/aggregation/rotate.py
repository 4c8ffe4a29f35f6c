"""Random rotations, after which all values of an update are alike.

    sent_k = R_t update_k,    mean = R_t^T (mean_k sent_k)

R_t is the randomised Hadamard transform of round t (`hadamard`), the same for
all clients: since it is linear, the mean is rotated back, once. Konečný,
McMahan, Yu, Richtárik, Suresh, Bacon, "Federated Learning: Strategies for
Improving Communication Efficiency" (2016), section 3, "improving the
quantization by structured random rotations"; Suresh, Yu, Kumar, McMahan,
"Distributed Mean Estimation with Limited Communication" (2017), section 3.

Nothing is lost: lengths stay, and decoding undoes it up to the rounding of
floats. By itself it only costs. It is for what comes next in a chain: between
the least and the greatest of n rotated values there are O(sqrt(log n / n))
lengths of the vector, against up to 2 before, which is what `quantize` pays.
"""

import jax
from jax import numpy as jnp

from fedjax_sim.aggregation import hadamard, vectors
from fedjax_sim.aggregation.encodings import Kind
from fedjax_sim.aggregation.transform import transform
from fedjax_sim.core import costs, precision
from fedjax_sim.core.types import Keys, Message, MessageTransform, PyTree


def rotate(over: str = 'leaf') -> MessageTransform:
  """Rotates updates on clients, and the mean back on the server.

  The values of a leaf, or all of them as one vector, are padded with zeros to a
  power of two P. The P values travel, in the leaf's dtype, and are counted. The
  signs come from the round's number, which clients have: no bits are counted.
  On a client it takes the memory of one such vector besides.

  Args:
    over: 'leaf' rotates each floating leaf on its own, as the paper does;
      'vector' all of them as one, which stands in the place of the first, the
      others being empty. What follows in the chain sees one leaf then, which
      changes results: `quantize` has one range instead of one for each layer.

  Raises:
    ValueError: `over` is something else; when a simulation is built, only some
      values are sent, or those that are mixed have weights of their own.
  """
  vectors.check_over(over)

  def client(message: Message, state, memory, keys: Keys, cohort):
    del state, cohort
    vectors.check_all_sent('rotate', message)
    _check_weight(message.weight, over)
    rotated = []
    for i, x in enumerate(vectors.of(message.update, over)):
      key = jax.random.fold_in(keys.round, i)
      y = hadamard.rotate(precision.wide(x), key)
      rotated.append(y.astype(x.dtype))
    update = _in_place(message.update, rotated)
    cost = message.cost
    if cost is not None:
      cost = cost._replace(values=costs.of(update).values)
    return message._replace(update=update, cost=cost), memory

  def decode(update: PyTree, state, key, like: PyTree) -> PyTree:
    del state
    vectors_of_mean = vectors.floats(update, update)
    back = [hadamard.unrotate(y, jax.random.fold_in(key, i), size)
            for i, (y, size) in enumerate(zip(
                vectors_of_mean, vectors.sizes(like, over), strict=True))]
    return vectors.put(update, back, over, like)

  return transform(
      'rotate', client=client, decode=decode, encodes=(Kind.MIXES,))


def _in_place(update: PyTree, rotated: list[jax.Array]) -> PyTree:
  """The update with rotated vectors; leaves beyond their number are empty."""
  leaves = vectors.floats(update, update)
  empty = [jnp.zeros(0, x.dtype) for x in leaves[len(rotated):]]
  return vectors.put_floats(update, [*rotated, *empty], update)


def _check_weight(weight: PyTree, over: str) -> None:
  """ValueError if values that are mixed may weigh differently."""
  weights = jax.tree.leaves(weight)
  if any(jnp.ndim(x) for x in weights) or (
      over == 'vector' and len(weights) > 1):
    what = 'all leaves' if over == 'vector' else 'each leaf'
    raise ValueError(
        f'rotate(over={over!r}) needs one weight for {what} of an update, '
        'since it mixes their values, got weights of the shapes '
        f'{", ".join(str(jnp.shape(x)) for x in weights)}.')
