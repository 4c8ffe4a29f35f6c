"""Checkpoints by orbax: written whole or not at all, the last few kept.

A checkpoint is a folder, named by its round, with what orbax writes and a
manifest of checksums (`manifest`). Nothing is read before its checksums hold.

`save_npz` writes parameters in a format that needs no library to read.
"""

import contextlib
import errno
import logging
import os
import shutil
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from jax import numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec

from fedjax_sim.core import files, trees
from fedjax_sim.core.types import PyTree
from fedjax_sim.experiment import manifest, processes
from fedjax_sim.simulation.placement import sharding

# orbax tells of each of its steps, at a level that users see by default.
logging.getLogger('absl').addFilter(
    lambda record: record.levelno >= logging.WARNING
    or 'orbax' not in record.pathname)

# What orbax writes, in a checkpoint's folder.
_STATE = 'state'


class Checkpoints:
  """The checkpoints of one run, by round; a context manager."""

  def __init__(self, directory: Path | str, keep: int | None):
    """Keeps the last `keep` of them, None all; removes none when made."""
    self._directory, self._keep = Path(directory).resolve(), keep
    self._orbax = ocp.Checkpointer(ocp.StandardCheckpointHandler())
    self._verified: dict[int, dict[str, Any]] = {}  # Round -> notes.
    self._rounds = sorted(
        int(path.name) for path in self._directory.glob('[0-9]*')
        if path.name.isdecimal())

  def latest(self) -> int | None:
    """The round of the newest checkpoint, None if there is none."""
    return self._rounds[-1] if self._rounds else None

  def save(
      self, round_number: int, state: PyTree,
      notes: Mapping[str, Any] | None = None,
  ) -> None:
    """Writes a checkpoint, unless that is the newest one.

    On return it is on the disk. If it can't be written, nothing of it is left,
    and the earlier ones are as they were.

    Args:
      round_number: later than that of the newest one.
      state: PyTree of arrays and keys.
      notes: what else to keep, as JSON can hold it.

    Raises:
      OSError: it can't be written, for example because the disk is full.
    """
    if round_number == self.latest():
      return
    folder = self._directory / str(round_number)
    part = self._directory / f'.{round_number}.part'  # For all processes.
    try:
      if processes.is_first():
        self._directory.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(part, ignore_errors=True)
      with _naming(folder):
        self._orbax.save(
            part / _STATE, args=ocp.args.StandardSave(_to_arrays(state)))
        if processes.is_first():
          manifest.write(part, dict(notes or {}))
          os.rename(part, folder)
          files.sync_folder(self._directory)
    except OSError:
      shutil.rmtree(part, ignore_errors=True)
      raise
    self._rounds.append(round_number)
    self._verified[round_number] = dict(notes or {})
    self._forget_oldest()

  def _forget_oldest(self) -> None:
    """Leaves the last few; a kill leaves none by halves."""
    while self._keep is not None and len(self._rounds) > self._keep:
      oldest = self._directory / str(self._rounds.pop(0))
      if processes.is_first():
        part = oldest.with_name(f'.{oldest.name}.part')
        os.rename(oldest, part)
        shutil.rmtree(part, ignore_errors=True)

  def newest_good(self) -> int | None:
    """The round of the newest one whose checksums hold, None without any.

    Damaged ones after it are kept under another name, and that is said; the run
    can go on from the one before, and comes to the same bits.

    Raises:
      ValueError: there are some, and all are damaged.
    """
    found = sharding.from_first(
        self._set_aside_damaged() if processes.is_first() else None)
    if found:
      self._rounds = [r for r in self._rounds if r <= found]
      self._forget_oldest()  # A kill may have come before that.
    return self.latest()

  def _set_aside_damaged(self) -> int | None:
    for latest in reversed(self._rounds):
      try:
        self.notes(latest)
      except ValueError as error:
        if self._good_before(latest) is None:
          raise
        aside = files.set_aside(self._directory / str(latest))
        print(f'warning: {error} It is kept as {aside.name}, and not used.',
              flush=True)
      else:
        return latest
    return None

  def notes(self, round_number: int) -> dict[str, Any]:
    """What was kept with a checkpoint, once its checksums hold.

    Raises:
      ValueError: they don't; the message names the file, and the newest good
        checkpoint before this one.
    """
    if round_number not in self._verified:
      try:
        self._verified[round_number] = self._check(round_number)
      except ValueError as error:
        good = self._good_before(round_number)
        raise ValueError(
            f'the checkpoint {self._directory / str(round_number)} can\'t be '
            f'used: {error} ' + (
                'There is no good one before it.' if good is None else
                f'The newest good one before it is that of round {good}.')
        ) from None
    return self._verified[round_number]

  def _check(self, round_number: int) -> dict[str, Any]:
    return manifest.verify(self._directory / str(round_number))

  def _good_before(self, round_number: int) -> int | None:
    for earlier in reversed([r for r in self._rounds if r < round_number]):
      with contextlib.suppress(ValueError):
        self._check(earlier)
        return earlier
    return None

  def verify(self) -> None:
    """Verifies the checksums of all.

    Raises:
      ValueError: as in `notes`, of the newest one that is damaged.
    """
    for round_number in reversed(self._rounds):
      self.notes(round_number)

  def shapes(self, round_number: int) -> dict[str, tuple[int, ...]]:
    """The leaves of a saved state: path, such as `params/w` -> shape.

    Raises:
      ValueError: the checkpoint can't be used.
    """
    with self._reading(round_number) as path:
      saved = self._orbax.metadata(path).item_metadata.tree
      return {name: leaf.shape for name, leaf in _named(saved)}

  def restore(self, round_number: int, like: PyTree) -> PyTree:
    """Reads a state.

    Args:
      round_number: the round that it was saved under.
      like: a state of the same structure, shapes and dtypes. Leaves may be
        longer or shorter along their first axis, which fills up the devices.
        NumPy arrays are read into such.

    Raises:
      ValueError: the checkpoint can't be used, or is of another state.
    """
    like_arrays = _to_arrays(like)
    wanted = dict(_named(like_arrays))
    with self._reading(round_number) as path:
      saved = self._orbax.metadata(path).item_metadata.tree
      leaves = _named(saved)
      _check_names(wanted.keys(), dict(leaves).keys())
      # By names, not by structure: what holds no leaf may have come or gone.
      found = dict(_named(self._orbax.restore(
          path, args=ocp.args.StandardRestore(jax.tree.unflatten(
              jax.tree.structure(saved),
              [_target(wanted[name], leaf.shape) for name, leaf in leaves])))))
    arrays = jax.tree.unflatten(
        jax.tree.structure(like_arrays),
        [_fit(leaf, found[name]) for name, leaf in wanted.items()])
    return jax.tree.map(
        lambda x, a: jax.random.wrap_key_data(a) if _is_key(x) else a,
        like, arrays)

  def arrays(self, round_number: int) -> dict[str, np.ndarray]:
    """What a checkpoint holds: path, such as `server/round` -> array.

    Raises:
      ValueError: the checkpoint can't be used.
    """
    with self._reading(round_number) as path:
      saved = self._orbax.metadata(path).item_metadata.tree
      # NumPy's: the devices that the run had need not be here.
      target = jax.tree.map(lambda x: np.empty(x.shape, x.dtype), saved)
      return dict(_named(self._orbax.restore(
          path, args=ocp.args.StandardRestore(target))))

  @contextlib.contextmanager
  def _reading(self, round_number: int) -> Iterator[Path]:
    """Where orbax's files are, verified; its errors become ValueErrors."""
    self.notes(round_number)
    folder = self._directory / str(round_number)
    try:
      yield folder / _STATE
    except Exception as error:
      reason = str(error).partition('\n')[0]
      raise ValueError(
          f"the checkpoint {folder} can't be read, though it is as it was "
          f'written ({type(error).__name__}: {reason:.200})') from error

  def __enter__(self):
    return self

  def __exit__(self, *unused):
    self._orbax.close()


@contextlib.contextmanager
def _naming(folder: Path) -> Iterator[None]:
  """Turns errors of writing, orbax's own too, into OSErrors with the name."""
  try:
    with files.naming(folder):
      yield
  except OSError:
    raise
  except Exception as error:
    full = 'No space left' in str(error) or 'RESOURCE_EXHAUSTED' in str(error)
    reason = str(error).partition('\n')[0]
    raise OSError(errno.ENOSPC if full else errno.EIO,
                  'No space left on device' if full else f'{reason:.200}',
                  str(folder)) from error


def _check_names(wanted: Iterable[str], saved: Iterable[str]) -> None:
  """ValueError where a saved state has other leaves."""
  lacking, beyond = set(wanted) - set(saved), set(saved) - set(wanted)
  if lacking or beyond:
    first = lambda names: ', '.join(sorted(names)[:3]) or 'nothing'
    raise ValueError(f'it is of another state, which lacks {first(lacking)} '
                     f'and has {first(beyond)} beside')


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
  return [(trees.path_name(path), leaf)
          for path, leaf in leaves]


def flat_names(tree: PyTree) -> dict[str, np.ndarray]:
  """Leaves by their path, such as `params/Dense_0/kernel`.

  Those of a dtype that NumPy's files do not know, bfloat16, are float32.
  """
  arrays = {name: np.asarray(leaf) for name, leaf in _named(tree)}
  return {name: x.astype(np.float32) if x.dtype == jnp.bfloat16 else x
          for name, x in arrays.items()}


def save_npz(path: Path | str, tree: PyTree) -> None:
  """Writes a tree's leaves by flattened name, atomically.

  The same leaves give the same bytes: no time is in the file.
  """
  with files.replacing(path) as file, zipfile.ZipFile(file, 'w') as archive:
    for name, leaf in flat_names(tree).items():
      with archive.open(
          zipfile.ZipInfo(f'{name}.npy'), 'w', force_zip64=True) as member:
        np.lib.format.write_array(member, leaf, allow_pickle=False)


def load_npz(path: Path) -> dict[str, Any]:
  """Name -> array, of an npz file.

  Raises:
    ValueError: it is damaged, or no such file; names it.
  """
  try:
    with np.load(path, allow_pickle=False) as arrays:
      return {name: arrays[name] for name in arrays.files}
  except Exception as error:
    raise ValueError(
        f"{path} can't be read ({type(error).__name__}: {error!s:.100})."
        ) from error
