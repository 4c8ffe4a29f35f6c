"""`Restriction`: a client trains, and sends, less than the whole model.

A restriction of arrays gives each of them coordinates z, of which fewer can
change than the array has entries, and a map from z to the array:

    w(z),  w(z_0) = w_t,  affine in z

Local training is that of z: gradients in z by the chain rule, the optimizer's
state in z. The server is sent what z has become, and makes of it the update
H = w(z) - w_t, of the array's own shape. What else is random in the map is
drawn from a seed that travels along.

A restriction to a submodel is a smaller model: see `submodels`.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from fedjax_sim.core import checks, precision, random, trees
from fedjax_sim.core.costs import Cost
from fedjax_sim.core.types import Aggregator, Model, PyTree, Variables

# The bits of a seed, which tells what was drawn.
SEED = 32


class Trained(NamedTuple):
  """The coordinates in which an array is trained.

  Attributes:
    start: float [...], z_0.
    expand: `(z) -> array`.
    pull: `(gradient in the array, wide) -> gradient in z`.
    sent: bool, like the array, the entries that can change; None for all.
    count: the numbers of z that can change and are sent; None for all.
    drawn: whether the maps need the seed.
  """

  start: jax.Array
  expand: Callable[[jax.Array], jax.Array]
  pull: Callable[[jax.Array], jax.Array]
  sent: jax.Array | None = None
  count: int | None = None
  drawn: bool = True


class Restriction(NamedTuple):
  """What of a model a client trains in a round.

  One of `trained` and `submodel` is None.

  Attributes:
    name: for errors.
    trained: `(path, array, key) -> Trained`, or None for an array that is
      trained and sent whole. A path looks like 'params/dense_0/kernel'.
    submodel: `(model) -> submodels.Submodel`, that clients have instead.
    recodes: whether numbers are sent that are no entries of the update, so that
      no transform could encode these.
  """

  name: str
  trained: Callable[[str, jax.Array, jax.Array], Trained | None] | None = None
  submodel: Callable[[Model], Any] | None = None
  recodes: bool = False

  def check_fits(self, aggregator: Aggregator | None) -> None:
    """ValueError if what is sent can't be encoded as the aggregator does."""
    transform = aggregator and aggregator.transform
    if not self.recodes or not transform:
      return
    for encoding in transform.encodings:
      if encoding.kind.name != 'SCALES':
        raise ValueError(
            f'uplink must not encode updates beside restrict={self.name}, '
            'which sends other numbers than the entries of an update, got '
            f'{encoding.name!r}.')


class Travels(NamedTuple):
  """What a message of a restricted client says beside its update.

  Attributes:
    sent: as in `Message`.
    cost: as in `Message`.
  """

  sent: PyTree | None
  cost: Cost


class Entered(NamedTuple):
  """A model in the coordinates of one client and round.

  Attributes:
    start: Variables of z_0.
    expand: `(params in z) -> params`.
    pull: `(gradient in params, wide) -> gradient in z`.
    travels: what is sent.
  """

  start: Variables
  expand: Callable[[PyTree], PyTree]
  pull: Callable[[PyTree], PyTree]
  travels: Travels


def enter(
    restriction: Restriction, variables: Variables, key: jax.Array
) -> Entered:
  """The coordinates of a client's model, drawn anew from `key`.

  Raises:
    ValueError: the restriction fits no array, or does not fit one, or its maps
      give arrays of other shapes than they must.
  """
  paths, treedef = jax.tree.flatten_with_path(variables.params)
  paths = [('params/' + trees.path_name(path), x) for path, x in paths]
  found = [restriction.trained(path, x, random.named(key, path))
           for path, x in paths]
  if not any(found):
    raise ValueError(
        f'{restriction.name} needs a model with matrices or convolutions, this '
        f'one has {", ".join(f"{path} {x.shape}" for path, x in paths)}.')

  for (path, x), one in zip(paths, found, strict=True):
    if one is not None:
      _check(restriction.name, path, x, one)

  def each(change: Callable) -> Callable[[PyTree], PyTree]:
    """Maps a tree like params, leaving what is trained whole."""
    return lambda tree: treedef.unflatten(
        x if one is None else change(one, x)
        for one, x in zip(found, treedef.flatten_up_to(tree), strict=True))

  start = variables._replace(
      params=each(lambda one, x: one.start)(variables.params))
  pull = lambda grads: each(lambda one, g: one.pull(g))(precision.wide(grads))
  return Entered(
      start, each(lambda one, z: one.expand(z)), pull,
      _travels(found, treedef, variables, start))


def _check(name: str, path: str, x: jax.Array, one: Trained) -> None:
  """ValueError unless the maps of an array are between what they should be.

  Other shapes would be broadcast, and train something else without a word.
  """
  checks.instance(f'what {name}.trained returns for {path}', one, Trained,
                  'Trained(start, expand, pull)')
  start = jax.eval_shape(lambda: one.start)
  gradient = jax.ShapeDtypeStruct(x.shape, precision.wide_dtype(x.dtype))
  told = lambda x: jax.tree.map(lambda x: f'{x.dtype}{list(x.shape)}', x)
  wide = lambda z: precision.wide_dtype(z.dtype)
  for what, got, want in (
      ('expand(start)', jax.eval_shape(one.expand, start), x),
      ('pull(gradient)', jax.eval_shape(one.pull, gradient),
       jax.ShapeDtypeStruct(np.shape(start), wide(start))),
      ('sent', one.sent, jax.ShapeDtypeStruct(x.shape, bool))):
    if got is not None and told(got) != told(want):
      raise ValueError(
          f'restrict={name}: {what} of {path} must be {told(want)}, got '
          f'{told(got)}, where start is {told(start)}.')


def _travels(found, treedef, variables: Variables, start: Variables) -> Travels:
  """What is sent of Variables whose arrays were found to be trained so."""
  drawn = [i for i, one in enumerate(found) if one and one.drawn]
  extra = [SEED if drawn[:1] == [i] else 0 for i in range(len(found))]
  state = variables.model_state
  bits = lambda x, count=None: (
      x.size if count is None else count) * np.dtype(x.dtype).itemsize * 8
  params = [bits(x, one and one.count) for one, x in zip(
      found, treedef.flatten_up_to(start.params), strict=True)]
  cost = Cost(
      Variables(treedef.unflatten(params), jax.tree.map(bits, state)),
      Variables(treedef.unflatten(extra), jax.tree.map(lambda x: 0, state)))
  everything = np.ones((), bool)
  masks = [one.sent if one and one.sent is not None else everything
           for one in found]
  if all(mask is everything for mask in masks):
    return Travels(None, cost)
  return Travels(
      Variables(treedef.unflatten(masks),
                jax.tree.map(lambda x: everything, state)), cost)


def matrix_shape(x: jax.Array) -> tuple[int, int] | None:
  """Rows and columns of an array as a matrix; None for a vector or scalar.

  Its last axis, a layer's outputs, are the columns: a convolution's kernel
  [h, w, inputs, outputs] has h * w * inputs rows.
  """
  if x.ndim < 2 or not x.size:
    return None
  return x.size // x.shape[-1], x.shape[-1]
