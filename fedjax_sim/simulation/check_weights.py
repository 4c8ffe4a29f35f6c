"""What clients weigh, as far as their numbers of examples tell it."""

import jax
import numpy as np
from jax import numpy as jnp
from jax.interpreters import partial_eval

from fedjax_sim.core import checks, warning
from fedjax_sim.core.types import ClientData, FederatedAlgorithm
from fedjax_sim.data.federated import FederatedData
from fedjax_sim.data.sampling import Sampler
from fedjax_sim.simulation import engine
from fedjax_sim.simulation.check_algorithm import Walked

# Of as many different sizes weights are looked at.
_SIZES = 16


def check_weights(
    walked: Walked, algorithm: FederatedAlgorithm, data: FederatedData,
    sampler: Sampler,
) -> None:
  """Checks the weights that follow from a client's size alone.

  Of an algorithm of this package only where the sampler prefers some clients:
  tracing a client's work takes a while.

  Raises:
    ValueError: they are negative, or all zero.

  Warns:
    The sampler draws clients by their size, and they weigh by it too.
  """
  by_size = (sampler.prefers and sampler.selector is None
             and algorithm.aggregator.reducer.plain)
  ours = (getattr(algorithm.client, '__module__', None) or '').startswith(
      f'{__name__.split(".")[0]}.')
  if ours and not by_size:
    return
  sizes = np.unique(data.sizes[data.sizes > 0])
  sizes = sizes[np.linspace(0, len(sizes) - 1, _SIZES).astype(int)]
  weights = _of_sizes(walked, algorithm, data, sizes)
  if weights is None:
    return
  wrong = np.nonzero(weights < 0)[0]
  if wrong.size or not weights.any():
    i = wrong[0] if wrong.size else 0
    raise ValueError(
        "algorithm's client must return a weight that is not negative, and not "
        f'0 for all clients, got {weights[i]:.4g} for one with {sizes[i]} '
        'examples.')
  if by_size and sizes[0] < sizes[-1] and np.allclose(
      weights / sizes, weights[0] / sizes[0]):
    warning.warn(
        'sampler draws large clients more often, and the algorithm weighs '
        'clients by their examples too, so large ones count twice: give the '
        "algorithm weighting='uniform'.")


def _of_sizes(
    walked: Walked, algorithm: FederatedAlgorithm, data: FederatedData,
    sizes: np.ndarray,
) -> np.ndarray | None:
  """float [len(sizes)]; None where they depend on more, or are no scalars."""
  broadcast, _ = walked.sent[-1]
  state, _ = engine.client_states(walked.first)

  def weight(size, broadcast, state, examples, key):
    own = ClientData(
        examples, jnp.int32(0), size, int(data.sizes.max()), True, None, None)
    return algorithm.client(broadcast, state, own, key).message.weight

  traced = jax.make_jaxpr(weight)(
      jax.ShapeDtypeStruct((), jnp.int32), broadcast, state,
      engine.one_example(data), jax.eval_shape(lambda: jax.random.key(0)))
  if [x.shape for x in traced.out_avals] != [()] or any(
      map(checks.is_traced, traced.consts)):
    return None
  needed, used = partial_eval.dce_jaxpr(traced.jaxpr, [True])
  if any(used[1:]):
    return None
  return np.array([
      jax.core.eval_jaxpr(needed, traced.consts, *[jnp.int32(size)] * used[0])
      for size in sizes], float)[:, 0]
