"""What a run from Python is, so that a folder is not taken for another's.

A config's fields are text, and can be compared. A model and an algorithm are
functions: what identifies them is what they compute, the jaxpr of a round. It
does not depend on the number of devices and lanes, nor on how long the run is.
"""

import hashlib
import re
import zlib
from collections.abc import Iterator
from typing import Any

import jax
import jax.extend.core
import numpy as np

from fedjax_sim.clients import measure
from fedjax_sim.core import random, trees
from fedjax_sim.core.types import PyTree
from fedjax_sim.data import mapped
from fedjax_sim.data.federated import FederatedData
from fedjax_sim.data.selector import Selector
from fedjax_sim.simulation import in_time
from fedjax_sim.simulation.exchange import nobody
from fedjax_sim.simulation.exchange_types import Surroundings
from fedjax_sim.simulation.rounds import Rounds
from fedjax_sim.simulation.simulation import Simulation, first_inputs

# Cohorts that are compared.
_ROUNDS = 5
# Of data on the disk only so many rows are read, evenly spaced.
_ROWS = 1000


def of(simulation: Simulation) -> dict[str, Any]:
  """A run's identity, of what JSON can hold.

  Args:
    simulation: ready to run.

  Returns:
    Part -> what it is, shapes in words and a hash of the rest.
  """
  variables = jax.eval_shape(
      simulation.model.init, jax.random.key(0),
      first_inputs(simulation.train))
  cohorts = [simulation.sampler.sample(r) for r in range(_ROUNDS)]
  return {
      'inputs': shapes(first_inputs(simulation.train)),
      'weights': shapes(variables),
      'model and algorithm': _program(simulation, variables),
      'training data': of_federation(simulation.train),
      'evaluation data': of_arrays({
          name: jax.tree.map(lambda x, m=np.asarray(data.mask):
                             np.asarray(x)[m], data.examples)
          for name, data in simulation.eval_data.items()}),
      'cohorts': f'{simulation.sampler.max_cohort} of '
                 f'{simulation.sampler.num_clients}, ' + of_arrays(cohorts),
      **_of_selector(simulation.sampler.selector),
      **_of_time(simulation.timeline),
  }


def _of_selector(selector: Selector | None) -> dict[str, str]:
  """What chooses by losses."""
  return {} if selector is None else {'selector': selector.settings}


def _of_time(timeline: in_time.Known | None) -> dict[str, str]:
  """Of the devices, the rule of rounds, and the first of these."""
  if timeline is None:
    return {}
  rounds = [] if timeline.sampler.selector else [
      timeline.round(r)._asdict() for r in range(_ROUNDS)]
  devices = timeline.profiles._replace(windows=None)
  return {'systems': f'{timeline.reporting}, ' + of_arrays((devices, rounds))}


def shapes(tree: PyTree) -> dict[str, str]:
  """Leaf -> its dtype and shape, such as 'float32[784,200]'."""
  leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
  return {trees.path_name(path):
          f'{x.dtype}{list(x.shape)}'.replace(' ', '') for path, x in leaves}


def of_federation(data: FederatedData) -> str:
  """Of who holds what; of examples on the disk, of some of them."""
  size = data.num_examples
  rows = slice(None)
  if mapped.is_mapped(data):
    rows = np.unique(np.linspace(0, size - 1, _ROWS).astype(np.int64))
  sums = of_arrays((jax.tree.map(lambda x: x[rows], data.examples),
                    data.offsets, '\n'.join(data.client_ids)))
  return f'{data.num_clients} clients, {size} examples, {sums}'


def of_arrays(tree: PyTree) -> str:
  """A checksum of arrays, texts and their structure."""
  total = zlib.crc32(str(jax.tree.structure(tree)).encode())
  for leaf in jax.tree.leaves(tree):
    if not isinstance(leaf, str):
      leaf = np.asarray(leaf)
      total = zlib.crc32(f'{leaf.dtype}{leaf.shape}'.encode(), total)
      leaf = np.ascontiguousarray(leaf).tobytes()
    total = zlib.crc32(leaf.encode() if isinstance(leaf, str) else leaf, total)
  return f'crc32 {total:08x}'


def _program(simulation: Simulation, variables: PyTree) -> str:
  """A hash of what a round computes, for one device and one lane."""
  train, sampler = simulation.train, simulation.sampler
  rounds = Rounds(
      algorithm=simulation.algorithm, num_clients=train.num_clients, devices=1,
      max_size=int(train.sizes.max()), ragged=True,
      cohort_size=sampler.max_cohort, num_states=train.num_clients)
  one = lambda x: jax.ShapeDtypeStruct((1, *x.shape[1:]), x.dtype)
  examples = jax.tree.map(one, train.examples)
  key = jax.random.key(0)

  def run(examples, variables, key):
    state = rounds.init(examples, variables, key)
    around = Surroundings(
        examples, random.round_key(key, state.server.round),
        jax.tree.map(lambda x: x[None], nobody(1)), variables.frozen)
    after = rounds.round(around, state, np.zeros((), bool), {})
    measured = jax.tree.map(lambda x: x[:1], examples)
    return after, measure.batch_metrics(
        simulation.model, variables, measured, np.ones(1, bool))

  with simulation.placement.tracing():
    jaxpr = jax.make_jaxpr(run)(examples, variables, key)
  digest = hashlib.sha256(_without_addresses(str(jaxpr)).encode())
  for constant in _constants(jaxpr):
    digest.update(of_arrays(constant).encode())
  return digest.hexdigest()[:16]


def _constants(jaxpr: Any) -> Iterator[Any]:
  """Arrays that functions have closed over, also those inside of a loop."""
  if isinstance(jaxpr, jax.extend.core.ClosedJaxpr):
    yield from jaxpr.consts
    jaxpr = jaxpr.jaxpr
  for equation in jaxpr.eqns:
    for x in equation.invars:
      if isinstance(x, jax.extend.core.Literal) and np.ndim(x.val):
        yield x.val
    for value in jax.tree.leaves(
        list(equation.params.values()), is_leaf=_is_jaxpr):
      if _is_jaxpr(value):
        yield from _constants(value)


def _is_jaxpr(value: Any) -> bool:
  return isinstance(
      value, jax.extend.core.Jaxpr | jax.extend.core.ClosedJaxpr)


def _without_addresses(text: str) -> str:
  """Of functions that a jaxpr names."""
  return re.sub(r'0x[0-9a-f]+', '', text)
