"""Whether what a model says of its hidden units holds.

Told from shapes where a client is traced, as it is when a simulation is built:
a submodel with other arrays than those cut from the whole one would fail in the
model's own layers, which know nothing of `hidden`.
"""

from collections.abc import Callable, Mapping

import jax

from fedjax_sim.core import checks, trees
from fedjax_sim.core.model import Hidden, Model, Variables

_MAKER = 'models.hidden_layers(widths, output, narrow)'
_NAMES = ('Flax numbers layers in the order in which they are made: in '
          'Dense(10)(relu(Dense(64)(x))) the one of 10 is Dense_0.')


def wrong(name: str, what: str) -> ValueError:
  """The error that blames `hidden`; `what` is without its full stop."""
  return ValueError(
      f"the model's field hidden does not fit the model, for restrict={name}: "
      f'{what}. {_NAMES}')


def check_kinds(name: str, hidden: Hidden | None) -> None:
  """ValueError unless it is a `Hidden` of some layers."""
  if hidden is None or (isinstance(hidden, Hidden) and not hidden.widths):
    raise ValueError(
        f'{name} needs a model that says which its hidden units are, such as '
        'mnist_2nn; see models.hidden_layers.')
  checks.instance("the model's field hidden", hidden, Hidden, _MAKER)
  for field in ('widths', 'axes'):
    checks.instance(f'hidden.{field}', getattr(hidden, field), Mapping, _MAKER)
  checks.function(
      'hidden.narrow', hidden.narrow, 'of widths, which returns a Model')
  for layer, width in hidden.widths.items():
    checks.positive_int(f'hidden.widths[{layer!r}]', width)
  for layer, places in hidden.axes.items():
    checks.one_of('each layer of hidden.axes', layer, hidden.widths)
    checks.instance(
        f'hidden.axes[{layer!r}]', places, Mapping, _MAKER)


def narrowed(name: str, hidden: Hidden, kept: Mapping[str, int]) -> Model:
  """The model that `hidden.narrow` makes of some units.

  Raises:
    ValueError: it fails, or makes something else.
  """
  try:
    made = hidden.narrow(kept)
  except Exception as error:  # A user's function.
    raise _failed(name, kept, error) from error
  return checks.instance(f'what hidden.narrow makes of {dict(kept)}', made,
                         Model, 'models.from_linen(module)')


def check_shapes(
    name: str, axes: Mapping[str, Mapping[int, str]], kept: Mapping[str, int],
    whole: Variables, taken: Variables, narrow_shapes: Callable[[], Variables],
) -> None:
  """Compares the arrays of a narrowed model with those cut from the whole one.

  Args:
    name: of the restriction.
    axes: path of an array -> axis -> layer.
    kept: layer -> number of units.
    whole: shapes of the whole model.
    taken: shapes of what is cut from it.
    narrow_shapes: returns the shapes of the narrowed model.

  Raises:
    ValueError: names the path, what was expected and what was got.
  """
  before, want = _shapes(whole), _shapes(taken)
  for path in axes:
    if path not in before:
      raise wrong(name, f'{path} must be an array of the model, which has '
                        f'{", ".join(before)}')
  try:
    got = _shapes(narrow_shapes())
  except Exception as error:  # A user's function.
    raise _failed(name, kept, error) from error
  for path in [*want, *(path for path in got if path not in want)]:
    if got.get(path) != want.get(path):
      raise wrong(
          name, f'{path} must have shape {want.get(path)}, which stays of '
          f'{before.get(path)}, in the model that hidden.narrow makes of '
          f'{dict(kept)}, got {got.get(path)}')


def _failed(name: str, kept: Mapping[str, int], error: Exception) -> ValueError:
  return wrong(name, f'hidden.narrow must make a model of {dict(kept)}, got '
                     f'{type(error).__name__}: {" ".join(str(error).split())}')


def _shapes(variables: Variables) -> dict[str, tuple[int, ...]]:
  """Path -> shape; frozen weights are not cut."""
  leaves = jax.tree.leaves_with_path(variables._replace(frozen=None))
  return {trees.path_name(path): x.shape for path, x in leaves}
