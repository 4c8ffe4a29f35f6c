"""Parts of a round whose errors, when they run, name their field."""

import functools
from collections.abc import Callable
from typing import Any

from fedjax_sim.clients.restrictions import Restriction
from fedjax_sim.core import builders
from fedjax_sim.core.types import Aggregator, MessageTransform, Reducer

_KINDS = MessageTransform | Reducer | Aggregator | Restriction


def blamed_part(field: str, text: str, part: Any) -> Any:
  """The same transform, reducer …, with errors of this field.

  What a part can't do with a model's messages it only finds out when it is
  traced, deep inside of a round.

  Args:
    field: of the config, such as 'uplink'.
    text: of its spec.
    part: what it stands for.
  """
  again = functools.partial(blamed_part, field, text)
  if isinstance(part, _KINDS):
    # The engine compares `merge` with `trees.add`.
    return part._replace(**{
        name: again(value) for name, value in zip(
            part._fields, part, strict=True) if name != 'merge'})
  if type(part) is tuple:  # The parts of a chain.
    return tuple(map(again, part))
  return _blamed(field, text, part) if callable(part) else part


def _blamed(field: str, text: str, function: Callable) -> Callable:
  def call(*args, **kwargs):
    with builders.blamed(field, text):
      return function(*args, **kwargs)
  return call
