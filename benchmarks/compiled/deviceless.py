"""A simulation over devices that are only described, to be compiled.

The package builds it as it always does, from examples to its default number of
lanes. What would put arrays onto devices, or ask a device, is replaced here.
"""

from unittest import mock

import jax
import numpy as np

from benchmarks.compiled import targets
from benchmarks.compiled.cases import (
    ALGORITHMS,
    MODELS,
    federation,
    test_set,
)
from benchmarks.compiled.worker import MARK
from fedjax_sim.clients import batches
from fedjax_sim.data import sampling
from fedjax_sim.simulation import build as build_lib
from fedjax_sim.simulation.placement import device_memory, sharding
from fedjax_sim.simulation.simulation import Simulation


def build(
    target: str, model: str, algorithm: str, clients: int, devices: int,
    unequal: bool, lanes: int | str = 'auto',
) -> Simulation:
  """A simulation that can be compiled, and not run.

  From here on this process takes the target for its default backend.

  Args:
    target: a name in TARGETS.
    model: a name in MODELS.
    algorithm: a name in ALGORITHMS.
    clients: M.
    devices: D.
    unequal: whether clients have different numbers of examples.
    lanes: W of each device, or 'auto'.
  """
  described = targets.devices(target, devices)
  _pretend(described, targets.TARGETS[target])
  instance = MODELS[model].build()
  train = federation(model, clients, unequal)
  return build_lib.build(
      instance, ALGORITHMS[algorithm](instance), train,
      sampling.uniform(train.num_clients, clients, seed=0),
      test=test_set(model), devices=devices, lanes=lanes)


def _pretend(described: list, target: targets.Target) -> None:
  """Replaces what needs a device, for the rest of the process."""
  key = jax.eval_shape(jax.random.key, 0)
  for where, name, what in (
      (jax, 'default_backend', lambda: target.backend),
      (jax, 'devices', lambda *args: described),
      (sharding, 'to_devices', _shapes),
      (device_memory, 'available', lambda device: target.memory),
      (build_lib, '_everywhere', lambda placement: lambda data: key),
      (batches, 'for_each_batch', _marked(batches.for_each_batch))):
    mock.patch.object(where, name, what).start()


def _shapes(tree, sharding):
  """What would lie on the devices."""
  return jax.tree.map(
      lambda x: jax.ShapeDtypeStruct(np.shape(x), np.asarray(x).dtype), tree)


def _marked(for_each_batch):
  """The loop over batches, whose steps' operations have a name."""
  def run(data, step, *args, **kwargs):
    return for_each_batch(
        data, jax.named_scope(MARK)(step), *args, **kwargs)
  return run
