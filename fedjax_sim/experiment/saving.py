"""`Result.save` and `load`: a run's folder from Python, and back."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from fedjax_sim.core import checks, frozen
from fedjax_sim.core.types import Model, PyTree, Variables
from fedjax_sim.experiment import (
    best,
    build_run,
    checkpoints,
    client_history,
    fingerprint,
    loop,
    metrics,
    results,
    workdir,
)
from fedjax_sim.experiment.result import Loaded, Result
from fedjax_sim.experiment.verify import verify
from fedjax_sim.simulation.placement.stored_states import StoredStates

_WHICH = ('last', 'best')
_FINAL = 'final_params.npz'
# Where a checkpoint has the global model.
_VARIABLES = 'server/variables/'


def save(result: Result, folder: Path) -> None:
  """Writes a result's model, records and state; see `Result.save`."""
  if isinstance(result.state.clients, StoredStates):
    raise ValueError(
        "save can't take clients' states that lie on disk, in a file of that "
        'run: simulate(workdir=) keeps them.')
  workdir.prepare(folder)
  if workdir.read_record(folder) is not None:
    raise ValueError(f'{str(folder)!r} holds a run already: name another '
                     'folder.')
  with checkpoints.Checkpoints(folder / 'checkpoints', keep=1) as saved:
    saved.save(int(result.state.server.round), result.state)
  metrics.append(folder / loop.METRICS_FILE, result.records)
  results.write(folder, result.state, (), {})
  if result.best is not None and result.best.variables is not None:
    result.best.write(folder / best.FILE)
  results.complete(folder, int(result.state.server.round))
  workdir.write_record(folder, {'made by': 'fedjax_sim.Result.save'}, {}, None)


def load(folder: Path, model: Model | None, which: str) -> Loaded:
  """See `result.load`."""
  checks.one_of('which', which, _WHICH)
  record = workdir.read_record(folder) if folder.is_dir() else None
  if record is None:
    raise ValueError(f'{str(folder)!r} holds no run: there is no config.json.')
  verify(folder)
  config = record['config']
  inputs = config.get('inputs') and _of_shapes(config['inputs'])
  if model is None:
    model, inputs = _model_of(folder, config)
  if which == 'best':
    arrays, number = _best(folder)
    if inputs is None:
      arrays = _typed(arrays, _last(folder)[0])
  else:
    arrays, number = _last(folder)
  file, clients = folder / loop.METRICS_FILE, folder / client_history.FILE
  return Loaded(
      model, _like(folder, arrays, model, inputs) if inputs is not None
      else _nested(arrays),
      metrics.read(file), number,
      client_history.read(clients) if clients.exists() else None)


def _of_shapes(described: Mapping[str, str]) -> PyTree:
  """Inputs from what `fingerprint.shapes` says of an array, a dict, a tuple."""
  tree = _nested({name or 'only': _of_shape(text)
                  for name, text in described.items()}, kind=dict)
  if tree.keys() == {'only'}:
    return tree['only']
  if all(name.isdigit() for name in tree):
    return tuple(tree[str(i)] for i in range(len(tree)))
  return tree


def _of_shape(text: str) -> np.ndarray:
  """The inverse of 'float32[1,784]'."""
  dtype, _, shape = text.rstrip(']').partition('[')
  return np.zeros([int(n) for n in shape.split(',') if n], dtype)


def _model_of(
    folder: Path, config: Mapping[str, Any]) -> tuple[Model, PyTree]:
  """The model that a config names, and inputs of one example."""
  if 'made by' in config:
    raise ValueError(
        f'load({str(folder)!r}) needs model=, the model of the run: it was '
        'made from Python, and a folder holds no code.')
  config = ConfigDict(config)
  dataset = build_run.load_dataset(config)
  return build_run.make_model(config, dataset), jax.tree.map(
      lambda x: x[:1], dataset.train['x'])


def _best(folder: Path) -> tuple[dict[str, np.ndarray], int]:
  file = folder / best.FILE
  if not file.exists():
    raise ValueError(
        f'{str(folder)!r} has no best model: {best.FILE} is missing. The run '
        'had no best_metric, or the file was lost.')
  arrays = checkpoints.load_npz(file)
  arrays.pop('value')
  return arrays, int(arrays.pop('round'))


def _last(folder: Path) -> tuple[dict[str, np.ndarray], int]:
  with checkpoints.Checkpoints(folder / 'checkpoints', keep=1000) as saved:
    latest = saved.latest()
    if latest is None:
      raise ValueError(f'{str(folder)!r} holds no checkpoint yet.')
    arrays = saved.arrays(latest)
  return {name.removeprefix(_VARIABLES): x for name, x in arrays.items()
          if name.startswith(_VARIABLES)}, latest


def _like(
    folder: Path, arrays: Mapping[str, np.ndarray], model: Model,
    inputs: PyTree,
) -> Variables:
  """Variables of the model's own structure, with its frozen weights."""
  like = jax.eval_shape(
      model.init, jax.random.key(0), inputs)._replace(frozen=None)
  names = list(fingerprint.shapes(like))
  if set(names) != arrays.keys():
    raise ValueError(
        f'{str(folder)!r} is of another model: it has '
        f'{", ".join(sorted(arrays))}, the model {", ".join(sorted(names))}.')
  arrays = _typed(arrays, dict(zip(names, jax.tree.leaves(like), strict=True)))
  found = jax.tree.unflatten(
      jax.tree.structure(like), [arrays[name] for name in names])
  return found._replace(frozen=frozen.of(model, inputs))


def _typed(
    arrays: Mapping[str, np.ndarray], like: Mapping[str, Any]
) -> dict[str, np.ndarray]:
  """The arrays with the dtypes of others of these names.

  NumPy's files hold bfloat16 as float32.
  """
  return {name: x.astype(like[name].dtype) if name in like else x
          for name, x in arrays.items()}


def _nested(arrays: Mapping[str, Any], kind: type = Variables) -> Any:
  """Nested dicts by the names of the leaves."""
  tree: dict[str, Any] = {}
  for name, leaf in arrays.items():
    *parents, last = name.split('/')
    place = tree
    for parent in parents:
      place = place.setdefault(parent, {})
    place[last] = leaf
  return tree if kind is dict else Variables(
      tree['params'], tree.get('model_state', {}))
