"""The round over several devices: a mesh with one axis, `clients`.

Each device computes clients of its own, all of a round's clients between them,
and one collective a round merges what they have added up. What the server holds
is on every device; a client's state is on the device that owns the client.
"""

import contextlib
import functools
import json
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from fedjax_sim.core import compilation, products
from fedjax_sim.core.types import PyTree

AXIS = 'clients'


class Placement(NamedTuple):
  """Devices, where arrays lie on them, and how they multiply.

  Attributes:
    mesh: D devices, axis `clients`.
    precision: of products, see `core/products.py`.
  """

  mesh: Mesh
  precision: str = 'highest'

  @property
  def size(self) -> int:
    """D."""
    return self.mesh.size

  @property
  def platform(self) -> str:
    """'cpu', 'gpu' or 'tpu'."""
    return compilation.platform_of(self.mesh.devices.flat[0])

  @property
  def is_here(self) -> bool:
    """Whether it can run in this process; one may compile for others."""
    return not set(self.mesh.local_devices).isdisjoint(jax.local_devices())

  @property
  def everywhere(self) -> NamedSharding:
    """The whole array on every device."""
    return NamedSharding(self.mesh, PartitionSpec())

  def split(self, axis: int = 0) -> NamedSharding:
    """An equal part of `axis` on each device."""
    return NamedSharding(self.mesh, PartitionSpec(*[None] * axis, AXIS))

  @contextlib.contextmanager
  def tracing(self) -> Iterator[None]:
    """What is traced meanwhile is for these devices."""
    with (compilation.target(self.platform),
          products.computed(self.precision, self.platform)):
      yield


def place(devices: int, precision: str = 'auto') -> Placement:
  """The first D devices.

  Raises:
    ValueError: there are fewer, or they don't multiply like that.
  """
  present = jax.devices()
  if not 1 <= devices <= len(present):
    raise ValueError(
        f"devices must be 'auto' or from 1 to {len(present)}, which is what "
        f'JAX has (on a CPU one for each core after use_all_cores(), which '
        f'run.py calls), got {devices}.')
  if jax.process_count() > 1 and devices != len(present):
    raise ValueError(
        f'devices must be all {len(present)} of the processes together, or '
        f"'auto', got {devices}.")
  platform = compilation.platform_of(present[0])
  return Placement(Mesh(present[:devices], (AXIS,)),
                   products.resolved(precision, platform))


def spread(run: Callable, placement: Placement, in_specs, out_specs, **jit):
  """`run` on each device of the mesh, on its part of the arrays; jit-compiled.

  Args:
    run: sees the arrays that its device holds, and may use `collectives`.
    placement: the mesh.
    in_specs: `NamedSharding`s of the arguments, a prefix of their tree.
    out_specs: of the results.
    **jit: further arguments of `jax.jit`.
  """
  specs = lambda tree: jax.tree.map(lambda s: s.spec, tree)

  @functools.wraps(run)
  def run_there(*args):
    with placement.tracing():
      return run(*args)

  mapped = jax.shard_map(
      run_there, mesh=placement.mesh, in_specs=specs(in_specs),
      out_specs=specs(out_specs), check_vma=False)
  return jax.jit(
      mapped, in_shardings=in_specs, out_shardings=out_specs, **jit)


def to_devices(tree: PyTree, sharding: NamedSharding) -> PyTree:
  """NumPy arrays onto a mesh; with several processes, each its own part."""
  def one(x):
    x = np.asarray(x)
    return jax.make_array_from_callback(
        x.shape, sharding, lambda index: x[index])
  return jax.tree.map(one, tree)


def gather(tree: PyTree) -> PyTree:
  """All arrays as a whole, on the first device of each process."""
  def one(x):
    if not x.is_fully_addressable and not x.is_fully_replicated:
      x = multihost_utils.process_allgather(x, tiled=True)
    elif x.is_fully_replicated:
      x = x.addressable_data(0)
    return jax.device_put(x, jax.local_devices()[0])
  return jax.tree.map(one, tree)


def agree(*values: float) -> np.ndarray:
  """The largest of each value over all processes, float64 on all of them.

  What depends on a clock or on a signal must be decided together.
  """
  here = np.array(values, np.float64)
  if jax.process_count() == 1:
    return here
  # As pairs of 32 bits: JAX would narrow 64.
  every = multihost_utils.process_allgather(here.view(np.uint32))
  return np.ascontiguousarray(every).view(np.float64).max(axis=0)


def from_first(value: Any) -> Any:
  """The first process's value, on all processes; of what JSON can hold.

  What a file says that one process may see and another not, one must tell.
  """
  if jax.process_count() == 1:
    return value
  text = json.dumps(value).encode()
  length = int(multihost_utils.broadcast_one_to_all(np.int32(len(text))))
  text = np.frombuffer(text[:length].ljust(length), np.uint8)
  return json.loads(bytes(multihost_utils.broadcast_one_to_all(text)))
