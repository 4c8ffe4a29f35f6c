"""The state that a run from Python begins with: drawn, given, or another's."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import core as flax_core
from flax import nnx

from fedjax_sim.core import frozen
from fedjax_sim.core.types import Model, PyTree, Variables
from fedjax_sim.experiment import fingerprint, loop, metrics
from fedjax_sim.experiment.result import Loaded, Result
from fedjax_sim.models.nnx import variables_of
from fedjax_sim.simulation.placement import sharding
from fedjax_sim.simulation.placement.stored_states import StoredStates
from fedjax_sim.simulation.records import Record
from fedjax_sim.simulation.rounds import SimulationState
from fedjax_sim.simulation.simulation import Simulation, first_inputs


def initial(given: Any, model: Model) -> Variables | None:
  """The weights that are given as `initial`, without frozen ones.

  Args:
    given: see `simulate`; None for none.
    model: of the run.

  Returns:
    NumPy arrays. The model_state is None where params alone are given.

  Raises:
    ValueError: it is a folder that holds no weights of such a model.
  """
  if given is None:
    return None
  if isinstance(given, str | Path):
    given = _of_folder(Path(given), model)
  if isinstance(given, Result | Loaded):
    given = given.variables
  if isinstance(given, nnx.Module):
    given = variables_of(given)
  if not isinstance(given, Variables):
    given = _of_params(given, model)
  return jax.tree.map(np.asarray, given._replace(frozen=None))


def _of_folder(folder: Path, model: Model) -> Loaded:
  from fedjax_sim.experiment import saving  # It imports orbax.
  try:
    return saving.load(folder, model, 'last')
  except ValueError as error:
    raise ValueError(f'initial: {error}') from error


def _of_params(given: PyTree, model: Model) -> Variables:
  """Params alone; or flax's variables, a dict by collection."""
  if model.linen is None or not isinstance(given, Mapping) or (
      'params' not in given):
    return Variables(given, None)
  state = flax_core.unfreeze(flax_core.meta.unbox(given))
  return Variables(state.pop('params'), state)


def first(
    given: Any, simulation: Simulation, folder: Path | None
) -> tuple[SimulationState, list[Record]]:
  """The first state, and the records of what came before it.

  Args:
    given: has `initial`, as the function of this name returns it,
      `resume_from` and `rounds`; see `simulate`.
    simulation: ready to run.
    folder: for clients' states that lie on disk.

  Raises:
    ValueError: what is given doesn't fit.
  """
  if given.resume_from is not None:
    state, records = _resumed(given.resume_from, simulation)
    done = int(state.server.round)
    if given.rounds is not None and given.rounds <= done:
      raise ValueError(
          f'rounds must be more than the {done} that resume_from has done, '
          f'which it counts too, got {given.rounds}.')
    return state, records
  if given.initial is None:
    return simulation.init(folder), []
  variables = _fitting('initial', given.initial, jax.eval_shape(
      simulation.model.init, jax.random.key(0),
      first_inputs(simulation.train))._replace(frozen=None))
  return simulation.init(folder, sharding.to_devices(
      variables, simulation.placement.everywhere)), []


def described(given: Any) -> str:
  """What identifies the start of a run, beside its seed."""
  if given.initial is not None:
    return 'initial: ' + fingerprint.of_arrays(given.initial)
  if isinstance(given.resume_from, Result):
    state = given.resume_from.state
    return f'after round {int(state.server.round)} of a result: ' + (
        fingerprint.of_arrays(state.server.variables))
  if given.resume_from is not None:
    return f'from {Path(given.resume_from).resolve()}'
  return 'drawn from the seed'


def _resumed(
    source: Any, simulation: Simulation
) -> tuple[SimulationState, list[Record]]:
  if simulation.state_buffer is not None:
    raise ValueError(
        "resume_from needs clients' states on the devices, client_state = "
        "'device'; where they lie on disk, a run goes on in its own workdir.")
  like = simulation.init()
  if not isinstance(source, Result):
    return _from_folder(Path(source), like)
  state = source.state
  if isinstance(state.clients, StoredStates):
    raise ValueError(
        "resume_from has clients' states on disk, in a file of that run: give "
        'that run a workdir, and go on there.')
  return _fitting('resume_from', frozen.without(state), like), list(
      source.records)


def _from_folder(
    folder: Path, like: SimulationState
) -> tuple[SimulationState, list[Record]]:
  from fedjax_sim.experiment.checkpoints import Checkpoints
  from fedjax_sim.experiment.verify import verify
  path = folder / 'checkpoints'
  if not path.is_dir():
    raise ValueError(
        f'resume_from must be a Result or the folder of a run, there are no '
        f'checkpoints in {str(folder)!r}.')
  verify(folder)
  with Checkpoints(path, keep=None) as saved:
    latest = saved.latest()
    if latest is None:
      raise ValueError(f'resume_from: {str(path)!r} holds no checkpoint.')
    state = saved.restore(latest, like)
  file = folder / loop.METRICS_FILE
  records = metrics.read(file)
  return state, [one for one in records if one['round'] <= latest]


def _fitting(name: str, tree: PyTree, like: PyTree) -> PyTree:
  """The tree like another: its shapes, dtypes, places.

  What clients keep may be longer or shorter along the first axis, which fills
  up the devices.

  Raises:
    ValueError: it is another tree; names what differs.
  """
  if isinstance(tree, Variables) and tree.model_state is None:
    if jax.tree.leaves(like.model_state):
      raise ValueError(
          f'{name} must be Variables, or the variables of a flax module by '
          'collection, for a model that has a model_state, got its params '
          'alone.')
    tree = tree._replace(model_state=like.model_state)
  got, want = fingerprint.shapes(tree), fingerprint.shapes(like)
  leaves, structure = jax.tree.flatten(like)
  differing = [key for key in sorted(got.keys() | want.keys())
               if not _fits(key, got.get(key, ''), want.get(key, ''))]
  if differing or jax.tree.structure(tree) != structure:
    lines = ''.join(f'\n  {key}: {got.get(key, "nothing")} there, '
                    f'{want.get(key, "nothing")} here' for key in differing)
    raise ValueError(f'{name} must be of this model and algorithm.'
                     f'{_in_words(got, want)}{lines}')
  return jax.tree.unflatten(structure, [
      _placed(x, one) for x, one in zip(
          jax.tree.leaves(tree), leaves, strict=True)])


def _in_words(got: dict[str, str], want: dict[str, str]) -> str:
  """A sentence where another algorithm keeps more, or less, of clients."""
  for part, what in (('clients', 'client states'),
                     ('transforms', 'memories of transforms')):
    has, wants = (any(key.startswith(part) for key in every)
                  for every in (got, want))
    if has != wants:
      which = 'another aggregator' if part == 'transforms' else (
          'another algorithm')
      return f' It is of {which}: it {"has" if has else "lacks"} {what}.'
  return ''


def _fits(path: str, got: str, want: str) -> bool:
  """Whether a leaf's dtype and shape, in words, fit."""
  if got == want or not path.startswith(('clients', 'transforms')):
    return got == want
  split = lambda text: re.fullmatch(r'(.*\[)\d+(.*)', text)
  one, two = split(got), split(want)
  return bool(one and two) and one.groups() == two.groups()


def _placed(x: Any, like: Any) -> Any:
  if not isinstance(like, jax.Array):
    return x
  if jax.dtypes.issubdtype(like.dtype, jax.dtypes.prng_key):
    return jax.device_put(x, like.sharding)
  x = np.asarray(x)
  if x.shape != like.shape:
    filled = np.array(like)  # Clients that it doesn't have begin.
    count = min(len(x), len(like))
    filled[:count] = x[:count]
    x = filled
  return sharding.to_devices(x, like.sharding)
