"""What a builder can be given, from its signature."""

import collections.abc
import dataclasses
import functools
import inspect
import types
import typing
from collections.abc import Callable, Collection, Mapping
from typing import Any

# What `inspect` raises where an annotation can't be evaluated.
_UNKNOWN = (NameError, TypeError, AttributeError, SyntaxError)


@dataclasses.dataclass(frozen=True)
class Signature:
  """The parameters of a builder.

  Attributes:
    parameters: by name; instead of `**options: Unpack[TypedDict]` the keys.
    open: it takes any other keyword too.
    traceable: keys of such a TypedDict that may be traced.
    returned: the annotation of what it returns.
  """

  parameters: Mapping[str, inspect.Parameter]
  open: bool
  traceable: tuple[str, ...]
  returned: Any

  @property
  def positional(self) -> list[str]:
    """Names of those that can be given without a keyword, in order."""
    return [name for name, p in self.parameters.items()
            if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]

  @property
  def keywords(self) -> list[str]:
    """Names of those that can be given with one."""
    return [name for name, p in self.parameters.items()
            if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]

  @property
  def rest(self) -> inspect.Parameter | None:
    """The parameter `*args`, if there is one."""
    return next((p for p in self.parameters.values()
                 if p.kind is p.VAR_POSITIONAL), None)

  def accepts(self, name: str, kind: type) -> bool:
    """Whether a parameter's annotation is a type, or has it in a union."""
    annotation = self.parameters[name].annotation
    return kind in (annotation, *typing.get_args(annotation))

  def text(self, name: str, without: Collection[str] = ()) -> str:
    """What one may write, such as 'ditto(lam, adaptive=False)'.

    Args:
      name: of the builder.
      without: parameters to leave out.
    """
    shown = [_shown(p) for key, p in self.parameters.items()
             if key not in without]
    return f'{name}({", ".join(shown + ["..."] * self.open)})'


@functools.cache
def signature(builder: Callable[..., Any]) -> Signature:
  """Reads a builder's signature."""
  try:
    read = inspect.signature(builder, eval_str=True)
  except _UNKNOWN:
    read = inspect.signature(builder)
  found, is_open, traceable = {}, False, ()
  for name, parameter in read.parameters.items():
    if parameter.kind is not parameter.VAR_KEYWORD:
      found[name] = parameter
      continue
    options = _options(parameter.annotation)
    is_open = options is None
    if options is not None:
      found |= {key: p for key, p in _of_options(options).items()
                if key not in found}
      traceable = getattr(options, 'traceable', ())
  return Signature(found, is_open, traceable, read.return_annotation)


def _options(annotation: Any) -> Any:
  """The TypedDict of Unpack[TypedDict], or None."""
  if typing.get_origin(annotation) is typing.Unpack:
    return typing.get_args(annotation)[0]
  return None


def _of_options(options: Any) -> dict[str, inspect.Parameter]:
  """A TypedDict's keys as parameters; those not required have a default."""
  return {key: inspect.Parameter(
      key, inspect.Parameter.KEYWORD_ONLY, annotation=kind,
      default=inspect.Parameter.empty if key in options.__required_keys__
      else ...) for key, kind in typing.get_type_hints(options).items()}


def _shown(parameter: inspect.Parameter) -> str:
  if parameter.kind is parameter.VAR_POSITIONAL:
    return f'*{parameter.name}'
  if parameter.default is parameter.empty:
    return parameter.name
  simple = isinstance(parameter.default, bool | int | float | str | None)
  default = repr(parameter.default) if simple else '...'
  return f'{parameter.name}={default}'


def has_callable(annotation: Any) -> bool:
  """Whether an annotation has `Callable` in it."""
  if typing.get_origin(annotation) in (typing.Union, types.UnionType):
    return any(map(has_callable, typing.get_args(annotation)))
  return annotation is Callable or (
      typing.get_origin(annotation) is collections.abc.Callable)
