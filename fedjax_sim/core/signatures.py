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
  """

  parameters: Mapping[str, inspect.Parameter]
  open: bool
  traceable: tuple[str, ...]

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
  def variadic(self) -> bool:
    """Whether it takes any number of arguments without a keyword."""
    return any(p.kind is p.VAR_POSITIONAL for p in self.parameters.values())

  def wants_function(self, name: str) -> bool:
    """Whether a parameter's annotation has `Callable` in it."""
    return name in self.parameters and _has_callable(
        self.parameters[name].annotation)

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
    parameters = inspect.signature(builder, eval_str=True).parameters
  except _UNKNOWN:
    parameters = inspect.signature(builder).parameters
  found, is_open, traceable = {}, False, ()
  for name, parameter in parameters.items():
    if parameter.kind is not parameter.VAR_KEYWORD:
      found[name] = parameter
      continue
    options = _options(parameter.annotation)
    is_open = options is None
    if options is not None:
      found |= {key: p for key, p in _of_options(options).items()
                if key not in found}
      traceable = getattr(options, 'traceable', ())
  return Signature(found, is_open, traceable)


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


def _has_callable(annotation: Any) -> bool:
  if typing.get_origin(annotation) in (typing.Union, types.UnionType):
    return any(map(_has_callable, typing.get_args(annotation)))
  return annotation is Callable or (
      typing.get_origin(annotation) is collections.abc.Callable)
