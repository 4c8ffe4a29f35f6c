"""Clients that train a submodel: it is taken out, and its update put back.

An algorithm is built twice, for the whole model and for the small one. The
server is the whole one's. What it sends has every `Variables` replaced by the
submodel's, with the seed of which units these are; the client is the small
one's; and its update is put into zeros of the whole one's shapes, with weights
that say which entries are its own.
"""

import inspect
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import numpy as jnp

from fedjax_sim.clients.restrictions import check_hidden
from fedjax_sim.clients.restrictions.restriction import Restriction
from fedjax_sim.core import random, trees
from fedjax_sim.core.costs import Cost
from fedjax_sim.core.types import (
    Aggregate,
    ClientOutput,
    FederatedAlgorithm,
    Keys,
    Message,
    Model,
    PyTree,
    Slot,
    Variables,
)


class Submodel(NamedTuple):
  """A model of fewer units, and how its arrays lie in those of the whole one.

  Attributes:
    name: of the restriction, for errors.
    model: with `kept` units; it begins as the whole one does.
    narrowed: what `Hidden.narrow` makes of `kept`.
    widths: of the whole model's hidden layers.
    kept: of the small one's.
    axes: path of an array -> axis -> the layer whose units it counts.
    per_client: whether each client's units are its own.
  """

  name: str
  model: Model
  narrowed: Model
  widths: Mapping[str, int]
  kept: Mapping[str, int]
  axes: Mapping[str, Mapping[int, str]]
  per_client: bool


class Received(NamedTuple):
  """What a client gets: the seed, uint32 [], and the message with its part."""

  seed: jax.Array
  message: PyTree


def submodel(
    name: str, model: Model, fraction: float, per_client: bool
) -> Submodel:
  """The model with a fraction of its hidden units.

  Raises:
    ValueError: the model does not say which these are, or not as it must; a
      layer would have none left.
  """
  check_hidden.check_kinds(name, model.hidden)
  widths, axes, _ = model.hidden
  layer, least = min(widths.items(), key=lambda item: item[1])
  if not round(fraction * least):
    raise ValueError(
        f'fraction must be more than 0.5 / {least}, or none of the {least} '
        f'units of {layer} would stay, got {fraction}.')
  kept = {layer: round(fraction * n) for layer, n in widths.items()}
  by_path: dict[str, dict[int, str]] = {}
  for layer, places in axes.items():
    for path, axis in places.items():
      by_path.setdefault(path, {})[axis] = layer
  narrowed = check_hidden.narrowed(name, model.hidden, kept)
  # All but the arrays' shapes is the whole model's own.
  small = model._replace(apply=narrowed.apply, hidden=None)
  return Submodel(
      name, small, narrowed, dict(widths), kept, by_path, per_client)


def with_submodels(
    builder: Callable[..., FederatedAlgorithm], restriction: Restriction,
    args: tuple, kwargs: Mapping[str, Any],
) -> FederatedAlgorithm:
  """An algorithm whose clients train a submodel.

  Args:
    builder: has a parameter `model`.
    restriction: to a submodel.
    args: of the builder.
    kwargs: of the builder, without the restriction.

  Raises:
    ValueError: the algorithm's clients keep a state, get several models, or
      are heard more than once a round; its reducer is not the weighted mean;
      the model does not say what its hidden units are.
  """
  given = inspect.signature(builder).bind(*args, **kwargs)
  whole = builder(*args, **kwargs)
  cut = restriction.submodel(given.arguments['model'])
  given.arguments['model'] = cut.model
  small = builder(*given.args, **given.kwargs)
  _check(cut.name, builder.__name__, whole)

  def client(received: Received, client_state, data, key) -> ClientOutput:
    _check_shapes(cut, data.examples['x'])
    output = small.client(received.message, client_state, data, key)
    units = draw(cut, received.seed)
    return output._replace(message=put_back(cut, output.message, units))

  def client_init(variables: Variables) -> PyTree:
    state = whole.client_init(variables)
    if jax.tree.leaves(state):
      raise ValueError(f'{cut.name} does not fit {builder.__name__}, whose '
                       'clients keep a state for the whole model.')
    return state

  def server(state, aggregate: Aggregate, key):
    return whole.server(state, aggregate._replace(
        weight=_total(cut.name, aggregate.weight)), key)

  def receive(message, slot: Slot, keys: Keys) -> Received:
    del slot
    seed = jax.random.bits(
        random.named(keys.client if cut.per_client else keys.round,
                     'submodel'), (), jnp.uint32)
    return Received(seed, take_out(cut, message, draw(cut, seed)))

  return whole._replace(
      client_init=client_init, client=client, server=server, receive=receive,
      pooled=None)


def draw(cut: Submodel, seed: jax.Array) -> dict[str, jax.Array]:
  """The units of each layer that stay: int32 [kept], sorted."""
  key = jax.random.key(seed)
  return {
      layer: jnp.sort(random.random_order(
          random.named(key, layer), n, n)[:cut.kept[layer]])
      for layer, n in cut.widths.items()}


def take_out(cut: Submodel, tree: PyTree, units) -> PyTree:
  """The tree with the submodel's arrays in all `Variables` in it."""
  def one(path: str, x: jax.Array) -> jax.Array:
    for axis, layer in cut.axes.get(path, {}).items():
      size = x.shape[axis] if -x.ndim <= axis < x.ndim else 0
      repeats, rest = divmod(size, cut.widths[layer])
      if rest or not repeats:
        raise check_hidden.wrong(
            cut.name, f'{path} must have along axis {axis} the '
            f'{cut.widths[layer]} units of {layer}, or each of them as often, '
            f'got shape {x.shape}')
      x = jnp.take(x, _places(cut, units, layer, repeats), axis)
    return x
  return _map_variables(one, tree)


def put_back(cut: Submodel, message: Message, units) -> Message:
  """A message about the submodel as one about the whole model."""
  update, weight = message.update, message.weight
  if message.group is not None or jnp.ndim(weight) or message.sent is not None:
    raise ValueError(f'{cut.name} needs an algorithm whose messages are of one '
                     'model and have one weight.')

  def one(path: str, x: jax.Array) -> jax.Array:
    for axis, layer in reversed(cut.axes.get(path, {}).items()):
      repeats = x.shape[axis] // cut.kept[layer]
      place = (slice(None),) * (axis % x.ndim) + (
          _places(cut, units, layer, repeats),)
      shape = list(x.shape)
      shape[axis] = repeats * cut.widths[layer]
      x = jnp.zeros(shape, x.dtype).at[place].set(x)
    return x

  def mask(path: str, x: jax.Array) -> jax.Array:
    return one(path, jnp.ones(x.shape if path in cut.axes else (), bool))

  everything = lambda x: jnp.ones((), bool)
  sent = _map_variables(mask, update, everything)
  cost = Cost(
      jax.tree.map(lambda x: x.size * np.dtype(x.dtype).itemsize * 8, update),
      jax.tree.map(lambda x: 0, update))
  return message._replace(
      update=_map_variables(one, update), sent=sent, cost=cost,
      weight=jax.tree.map(lambda here: jnp.where(here, weight, 0), sent))


def _places(cut: Submodel, units, layer: str, repeats: int) -> jax.Array:
  """Where units lie along an axis that repeats them, the unit varying first."""
  starts = jnp.arange(repeats, dtype=jnp.int32) * cut.widths[layer]
  return jnp.ravel(starts[:, None] + units[layer][None])


def _map_variables(change, tree: PyTree, others=lambda x: x) -> PyTree:
  """`change(path, x)` of all arrays of `Variables`, `others(x)` of the rest.

  Frozen weights stay as they are.
  """
  def one(node):
    if not isinstance(node, Variables):
      return others(node)
    named = lambda path, x: change(trees.path_name(path), x)
    changed = jax.tree.map_with_path(named, node._replace(frozen=None))
    return changed._replace(frozen=node.frozen)
  return jax.tree.map(one, tree, is_leaf=lambda x: isinstance(x, Variables))


def _total(name: str, weight: PyTree) -> jax.Array:
  """The sum of the clients' weights: that of what every submodel has."""
  scalars = [x for x in jax.tree.leaves(weight) if not jnp.ndim(x)]
  if not scalars:
    raise ValueError(f'{name} needs a model with an array that belongs to no '
                     'hidden unit, such as the bias of the outputs.')
  return scalars[0]


def _check_shapes(cut: Submodel, inputs: PyTree) -> None:
  """ValueError if the narrowed model's arrays are not those taken out."""
  key = jax.random.key(0)
  inputs = jax.tree.map(
      lambda x: jax.ShapeDtypeStruct((1, *x.shape[1:]), x.dtype), inputs)
  whole = jax.eval_shape(cut.model.init, key, inputs)
  taken = jax.eval_shape(
      lambda tree, seed: take_out(cut, tree, draw(cut, seed)), whole,
      jax.ShapeDtypeStruct((), np.uint32))
  check_hidden.check_shapes(
      cut.name, cut.axes, cut.kept, whole, taken,
      lambda: jax.eval_shape(cut.narrowed.init, key, inputs))


def _check(name: str, builder: str, algorithm: FederatedAlgorithm) -> None:
  if algorithm.phases or algorithm.receive is not None:
    raise ValueError(f'{name} does not fit {builder}: clients must be sent one '
                     'message in a round, and send one.')
  if not algorithm.aggregator.reducer.plain:
    raise ValueError(
        'reduce must be weighted_mean(), of the clients that have an entry, '
        f'beside restrict={name}, got {algorithm.aggregator.reducer.name}.')
