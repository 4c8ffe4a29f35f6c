"""What is built from the same things is built once: for compiled programs.

Functions are the same if they are one object, as for `jax.jit`: what they read
beside their arguments must not change. Shapes and plain values are compared.
"""

import functools
import weakref
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any

import jax

# Settings that change what is traced or compiled.
_SETTINGS = ('jax_enable_x64', 'jax_default_matmul_precision', 'jax_debug_nans',
             'jax_debug_infs', 'jax_numpy_dtype_promotion',
             'jax_default_prng_impl', 'jax_threefry_partitionable',
             'jax_disable_jit', 'jax_numpy_rank_promotion')

_stores: weakref.WeakSet = weakref.WeakSet()


class _Store(OrderedDict):
  """Key -> (arguments, result); the arguments live as long as their key."""

  __hash__ = object.__hash__


def reused(size: int) -> Callable[[Callable], Callable]:
  """Makes a function return what it has returned for the same arguments.

  Args:
    size: how many results are kept; the one that was used longest ago goes
      first.

  Returns:
    A decorator. The function's arguments are PyTrees of functions, shapes and
    plain values; arrays count by identity.
  """
  def decorate(function):
    store = _Store()
    _stores.add(store)

    @functools.wraps(function)
    def call(*args, **kwargs):
      key = _identity((args, kwargs)), _settings()
      if key not in store:
        result = function(*args, **kwargs)
        store[key] = (args, kwargs), result
        if len(store) > size:
          store.popitem(last=False)
      store.move_to_end(key)
      return store[key][1]

    call.store = store  # Which lives as long as the function.
    return call
  return decorate


def forget() -> None:
  """Lets go of all that is kept, and of what it was built from."""
  for store in list(_stores):
    store.clear()


def _identity(tree: Any) -> Hashable:
  leaves, treedef = jax.tree.flatten(tree)
  return treedef, tuple(map(_of_leaf, leaves))


def _of_leaf(leaf: Any) -> Hashable:
  try:
    hash(leaf)
  except TypeError:
    return id(leaf)
  return type(leaf), leaf


def _settings() -> tuple:
  return tuple(getattr(jax.config, name, None) for name in _SETTINGS)
