"""Checkpoints by orbax: written whole or not at all, the last few kept.

`save_npz` writes parameters in a format that needs no library to read.
"""

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from jax import numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec

from fedjax_sim.core import files
from fedjax_sim.core.types import PyTree

# orbax tells of each of its steps, at a level that users see by default.
logging.getLogger('absl').addFilter(
    lambda record: record.levelno >= logging.WARNING
    or 'orbax' not in record.pathname)


class Checkpoints:
  """The checkpoints of one run, by round; a context manager."""

  def __init__(self, directory: Path | str, keep: int):
    options = ocp.CheckpointManagerOptions(
        max_to_keep=keep, create=True, enable_async_checkpointing=False)
    self._directory = Path(directory).resolve()
    self._manager = ocp.CheckpointManager(
        self._directory, options=options,
        item_handlers=ocp.StandardCheckpointHandler())

  def latest(self) -> int | None:
    """The round of the newest checkpoint, None if there is none."""
    return self._manager.latest_step()

  def save(self, round_number: int, state: PyTree) -> None:
    """Writes a state (PyTree of arrays and keys); on return it is on disk."""
    if round_number != self.latest():
      self._manager.save(
          round_number, args=ocp.args.StandardSave(_to_arrays(state)))
      files.sync_folder(self._directory)

  def shapes(self, round_number: int) -> dict[str, tuple[int, ...]]:
    """The leaves of a saved state: path, such as `params/w` -> shape.

    Raises:
      ValueError: the checkpoint can't be read.
    """
    with self._reading(round_number):
      saved = self._manager.item_metadata(round_number)
      return {name: leaf.shape for name, leaf in _named(saved)}

  def restore(self, round_number: int, like: PyTree) -> PyTree:
    """Reads a state.

    Args:
      round_number: the round that it was saved under.
      like: a state of the same structure, shapes and dtypes. Leaves may be
        longer or shorter along their first axis, which fills up the devices.
        NumPy arrays are read into such.

    Raises:
      ValueError: the checkpoint can't be read, or is of another state.
    """
    like_arrays = _to_arrays(like)
    saved = self.shapes(round_number)
    target = jax.tree.unflatten(
        jax.tree.structure(like_arrays),
        [_target(leaf, saved.get(name, leaf.shape))
         for name, leaf in _named(like_arrays)])
    with self._reading(round_number):
      arrays = self._manager.restore(
          round_number, args=ocp.args.StandardRestore(target))
    arrays = jax.tree.map(_fit, like_arrays, arrays)
    return jax.tree.map(
        lambda x, a: jax.random.wrap_key_data(a) if _is_key(x) else a,
        like, arrays)

  @contextlib.contextmanager
  def _reading(self, round_number: int) -> Iterator[None]:
    """Turns whatever a damaged checkpoint raises into a ValueError."""
    try:
      yield
    except Exception as error:
      reason = str(error).partition('\n')[0]
      earlier = [r for r in self._manager.all_steps() if r < round_number]
      way = f'; the one before it is {max(earlier)}' if earlier else ''
      raise ValueError(
          f'the checkpoint {self._directory / str(round_number)} can\'t be '
          f'read{way} ({type(error).__name__}: {reason:.200})') from error

  def __enter__(self):
    return self

  def __exit__(self, *unused):
    self._manager.close()


def _target(
    like: jax.Array, shape: tuple[int, ...]
) -> jax.ShapeDtypeStruct | np.ndarray:
  """How to read a leaf: where it belongs if that fits, else everywhere."""
  if isinstance(like, np.ndarray):
    return np.empty(shape, like.dtype)
  sharding = like.sharding
  if shape != like.shape and isinstance(sharding, NamedSharding):
    sharding = NamedSharding(sharding.mesh, PartitionSpec())
  if shape[1:] != like.shape[1:]:
    shape = like.shape  # Another state: orbax tells what differs.
  return jax.ShapeDtypeStruct(shape, like.dtype, sharding=sharding)


def _fit(like: jax.Array, x: jax.Array) -> jax.Array:
  """Cut or filled along the first axis, where it belongs."""
  if x.shape == like.shape:
    return x
  if isinstance(like, np.ndarray):
    return x[:len(like)]
  extra = max(0, len(like) - len(x))
  x = jnp.concatenate([x, jnp.zeros((extra, *x.shape[1:]), x.dtype)])
  return jax.device_put(x[:len(like)], like.sharding)


def _is_key(x) -> bool:
  return jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key)


def _to_arrays(state: PyTree) -> PyTree:
  return jax.tree.map(
      lambda x: jax.random.key_data(x) if _is_key(x) else x, state)


def _named(tree: PyTree) -> list[tuple[str, Any]]:
  """Leaves with their path, such as `params/Dense_0/kernel`."""
  leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
  return [(jax.tree_util.keystr(path, simple=True, separator='/'), leaf)
          for path, leaf in leaves]


def flat_names(tree: PyTree) -> dict[str, np.ndarray]:
  """Leaves by their path, such as `params/Dense_0/kernel`.

  Those of a dtype that NumPy's files do not know, bfloat16, are float32.
  """
  arrays = {name: np.asarray(leaf) for name, leaf in _named(tree)}
  return {name: x.astype(np.float32) if x.dtype == jnp.bfloat16 else x
          for name, x in arrays.items()}


def save_npz(path: Path | str, tree: PyTree) -> None:
  """Writes a tree's leaves by flattened name, atomically."""
  with files.replacing(path) as file:
    np.savez(file, **flat_names(tree))
