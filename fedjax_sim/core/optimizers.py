"""What rounds do with an optax optimizer: start it, seed it, take its steps.

An optimizer computes wide, see `core/precision.py`, whatever the parameters'
dtype, and its state keeps the dtypes that it begins with.

Randomness inside of an optimizer (`optax.noisy_sgd`) begins at a key of its own
state, which `init` makes equal for all clients, rounds and runs. Here such keys
are replaced by some that are made of who draws and when: on a client of its key
in the round, on the server of the run's seed.
"""

import jax
import optax
from jax import numpy as jnp

from fedjax_sim.core import precision, random, trees
from fedjax_sim.core.types import PyTree


def init(
    optimizer: optax.GradientTransformation, params: PyTree, key: jax.Array
) -> optax.OptState:
  """An optimizer's first state, with keys made from `key`."""
  return seeded(optimizer.init(precision.wide(params)), key)


def update(
    optimizer: optax.GradientTransformation,
    gradient: PyTree,
    state: optax.OptState,
    params: PyTree,
) -> tuple[PyTree, optax.OptState]:
  """What the optimizer adds to the parameters, wide, and its next state."""
  updates, following = optimizer.update(
      precision.wide(gradient), state, precision.wide(params))
  return updates, precision.narrow(following, state)


def seeded(
    state: optax.OptState, key: jax.Array, step: jax.Array | int = 0
) -> optax.OptState:
  """The state with new keys in the place of all that are in it.

  Args:
    state: of an optimizer. Keys are found by their type, or as uint32 arrays
      in a field named key, or ending so.
    key: of the client or server that draws; each place of the state gets one of
      its own.
    step: int32 [], where several calls have the same key.
  """
  places = random_places(state)
  if not places:
    return state
  key = jax.random.fold_in(random.named(key, 'optimizer'), step)
  leaves, treedef = jax.tree.flatten(state)
  for i in places:
    typed = _is_typed_key(leaves[i])
    data = jax.random.key_data(leaves[i]) if typed else leaves[i]
    bits = jax.random.bits(
        jax.random.fold_in(key, i), data.shape, jnp.uint32)
    leaves[i] = jax.random.wrap_key_data(
        bits, impl=jax.random.key_impl(leaves[i])) if typed else bits
  return jax.tree.unflatten(treedef, leaves)


def random_places(state: optax.OptState) -> list[int]:
  """Which leaves of a state are keys.

  Raises:
    ValueError: a leaf is a seed of another kind, which nobody could replace.
  """
  found = []
  for i, (path, leaf) in enumerate(jax.tree.leaves_with_path(state)):
    names = trees.path_name(path)
    last = names.split('/')[-1].lower()
    if _is_typed_key(leaf):
      found.append(i)
    elif last.endswith(('key', 'rng')) and leaf.dtype == jnp.uint32:
      found.append(i)
    elif last.endswith(('key', 'rng', 'seed')):
      raise ValueError(
          f'the optimizer keeps its randomness in {names}, of dtype '
          f'{leaf.dtype}, which can not be made different for each client and '
          'round: it must be a key, such as jax.random.key(0).')
  return found


def _is_typed_key(x) -> bool:
  return jnp.issubdtype(jnp.result_type(x), jax.dtypes.prng_key)
