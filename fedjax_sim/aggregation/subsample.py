"""Random subsets of an update's values.

    sent_k = b_k * update_k / p,    b_k independent, 1 with probability p

for each value, client and round. Konečný, McMahan, Yu, Richtárik, Suresh,
Bacon, "Federated Learning: Strategies for Improving Communication Efficiency"
(2016), section 3, "subsampling". Unbiased, with variance (1 - p) / p update^2
in each value. `random_k` sends as many values each time.

After `rotate` the values that are lost are of no one place. `quantize` after it
has its range from those that are sent:
`rotate | subsample(0.25) | quantize(bits=2)` is the paper's sketched update.
"""

import jax
from jax import numpy as jnp

from fedjax_sim.aggregation import vectors
from fedjax_sim.aggregation.encodings import Kind
from fedjax_sim.aggregation.transform import transform
from fedjax_sim.aggregation.value_code import SEED
from fedjax_sim.core import checks, costs, specs
from fedjax_sim.core.types import Keys, Message, MessageTransform


@specs.traceable('fraction')
def subsample(fraction: float) -> MessageTransform:
  """Sends each value with probability `fraction`, divided by it.

  The client draws, and sends the seed of its draws, 32 bits, so that the server
  knows which values come; they travel in the leaf's dtype, unless what follows
  codes them. The bits differ from client to client.

  Args:
    fraction: p, in (0, 1]; may be traced.

  Raises:
    ValueError: an argument is out of range.
  """
  checks.share('fraction', fraction)

  def client(message: Message, state, memory, keys: Keys, cohort):
    del state, cohort
    update, before = message.update, vectors.sent_of(message, 'leaf')
    leaves, masks = [], []
    for i, x in enumerate(vectors.floats(update, update)):
      drawn = jax.random.bernoulli(
          jax.random.fold_in(keys.client, i), jnp.float32(fraction), x.shape)
      if before:
        drawn &= before[i].reshape(x.shape)
      masks.append(drawn)
      leaves.append(_scaled(x, drawn, fraction))
    sent = vectors.put_floats(
        jax.tree.map(lambda x: jnp.ones(x.shape, bool), update), masks, update)
    new = vectors.put_floats(update, leaves, update)
    return message._replace(
        update=new, sent=sent, cost=_cost(message, new, sent)), memory

  few = not checks.is_traced(fraction) and fraction <= 0.5
  return transform(
      'subsample', client=client, encodes=(Kind.SELECTS,),
      lacks='with a fraction above 0.5; random_k(unbiased=False) does so with '
      'any' if few else '')


def _scaled(x: jax.Array, drawn: jax.Array, fraction) -> jax.Array:
  """A value that is not finite is seen, sent or not."""
  kept = drawn | ~jnp.isfinite(x)
  return jnp.where(kept, x / fraction, 0).astype(x.dtype)


def _cost(message: Message, update, sent):
  if message.cost is None:
    return None
  extra = vectors.floats(message.cost.extra, update)
  return costs.Cost(
      costs.of(update, sent).values,
      vectors.put_floats(message.cost.extra, [
          x + (0 if i else SEED) for i, x in enumerate(extra)], update))
