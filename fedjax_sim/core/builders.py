"""From a spec to what it stands for: look-up, arguments, context, building.

`bind` looks a spec's builders up in a field's `Namespace` and fits the
arguments to their signatures, without calling anything. `build` then makes the
thing. What a run knows (the model, the rounds, the number of clients …) is the
*context*: it goes to the parameters of these names, and arguments without a
keyword go to the others.

In an argument a name without parentheses stands for the function itself where
the parameter's annotation says `Callable`; elsewhere it is a call.
"""

import contextlib
import dataclasses
import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from fedjax_sim.core import argument_kinds, checks, specs
from fedjax_sim.core.namespaces import Builder, Namespace, look_up
from fedjax_sim.core.signatures import has_callable, signature

# Of a text that an error shows beside the part that it is about.
_LONGEST = 500


@dataclasses.dataclass(frozen=True)
class Function:
  """A function that is itself the value."""

  name: str
  function: Builder


@dataclasses.dataclass(frozen=True)
class Bound:
  """A call that fits its builder.

  Attributes:
    field: what holds the spec, for errors.
    name: as in the text.
    builder: what is called.
    arguments: by name of the parameter; values may be bound too.
    rest: those that a parameter `*args` takes.
    context: parameters that `build` fills in.
    traceable: names of the parameters that may be traced.
    fields: names of the parameters that a field of the config sets -> its name.
    bare: without arguments the name alone means this call.
  """

  field: str
  name: str
  builder: Builder
  arguments: dict[str, Any]
  rest: tuple[Any, ...]
  context: tuple[str, ...]
  traceable: tuple[str, ...]
  fields: Mapping[str, str]
  bare: bool


@dataclasses.dataclass(frozen=True)
class BoundChain:
  """A chain whose parts fit.

  Attributes:
    field: what holds the spec, for errors.
    parts: in order.
    combine: makes one of what they stand for.
  """

  field: str
  parts: 'tuple[Bound | Function, ...]'
  combine: Callable[..., Any]


AnyBound = Bound | BoundChain | Function


def bind(text: str, namespace: Namespace) -> AnyBound:
  """Looks a spec's builders up and fits its arguments to their signatures.

  Raises:
    ValueError: a name is unknown or an argument doesn't fit; shows near names
      and the builder's signature.
  """
  combines = ', or several with |' if namespace.combine else ''
  spec = specs.parse(
      namespace.field, text, f"'{namespace.example}'{combines}",
      namespace.builders)
  field, whole = namespace.field, specs.text_of(spec)
  with naming_whole(field, whole):
    try:
      return _bind(spec, namespace, namespace.functions)
    except ValueError as error:  # Of a name, which may be all there is.
      told = str(error).startswith(f'{field}=') or whole.isidentifier()
      if told or len(whole) > _LONGEST:
        raise
      raise ValueError(f'{field}={whole}: {error}') from error


def build(bound: AnyBound, context: Mapping[str, Any]) -> Any:
  """Calls the builders, the inner ones first.

  Args:
    bound: what `bind` returned.
    context: values by parameter name; those that no parameter has are not
      looked at.

  Raises:
    ValueError: a builder refuses an argument or fails, or an argument is not
      of the kind that the parameter's annotation says.
  """
  if isinstance(bound, Function):
    return bound.function
  if isinstance(bound, BoundChain):
    made = [build(part, context) for part in bound.parts]
    with blamed(bound.field, text_of(bound)):
      return bound.combine(*made)
  built = lambda value: map_bound(lambda x: build(x, context), value)
  keywords = {name: built(x) for name, x in bound.arguments.items()}
  given = [built(x) for x in bound.rest]
  _check_kinds(bound, keywords, given)
  keywords |= {name: context[name] for name in bound.context}
  if given:
    first = signature(bound.builder).positional
    given = [keywords.pop(name) for name in first if name in keywords] + given
  return _call(bound, given, keywords)


def calls(bound: AnyBound) -> list[Bound]:
  """All calls in it, the outer ones first."""
  if isinstance(bound, Function):
    return []
  if isinstance(bound, BoundChain):
    found, inner = [], list(bound.parts)
  else:
    found, inner = [bound], [*bound.arguments.values(), *bound.rest]
  map_bound(lambda x: found.extend(calls(x)), inner)
  return found


def taken(bound: AnyBound) -> set[str]:
  """Names of the context that some builder in it is given."""
  return {name for call in calls(bound) for name in call.context}


def spec_of(bound: AnyBound) -> specs.Spec:
  """The spec with each argument under its parameter's name."""
  if isinstance(bound, BoundChain):
    return specs.Chain(tuple(map(spec_of, bound.parts)))
  if isinstance(bound, Function):
    return specs.Call(bound.name, bare=True)
  kwargs = map_bound(spec_of, bound.arguments)
  args = map_bound(spec_of, bound.rest)
  if args:
    first = [n for n in signature(bound.builder).positional if n in kwargs]
    args = (*map(kwargs.pop, first), *args)
  bare = bound.bare and not (args or kwargs)
  return specs.Call(bound.name, args, kwargs, bare)


def text_of(bound: AnyBound) -> str:
  """The canonical text: the same for all spellings of a spec."""
  return specs.text_of(spec_of(bound))


def map_bound(function: Callable[[AnyBound], Any], value: Any) -> Any:
  """Applies a function to everything bound in an argument."""
  if isinstance(value, AnyBound):
    return function(value)
  if isinstance(value, list | tuple):
    return type(value)(map_bound(function, x) for x in value)
  if isinstance(value, dict):
    return {key: map_bound(function, x) for key, x in value.items()}
  return value


def _bind(
    spec: specs.Spec, space: Namespace, as_function: bool,
    argument: inspect.Parameter | None = None,
) -> AnyBound:
  """`bind` of a field's spec, or of one that an argument is given."""
  if isinstance(spec, specs.Chain):
    if space.combine is None:
      what = space.field if argument is None else argument.name
      raise ValueError(f'{what} must name one thing, it has no chains, '
                       f'got {specs.text_of(spec)!r}.')
    parts = tuple(_bind(part, space, as_function, argument)
                  for part in spec.parts)
    return BoundChain(space.field, parts, space.combine)
  builder, is_part = look_up(spec.name, space, argument)
  if spec.bare and as_function:
    return Function(spec.name, builder)
  known = space.parts_context if is_part else space.context
  arguments, rest = _arguments(
      spec, builder, space.field, known, {**space.fields, **space.told})
  for name in {} if is_part else arguments.keys() & space.fields.keys():
    raise ValueError(
        f'{space.field}={specs.text_of(spec)}: {name} must not be given here, '
        f'it is set by the field {space.fields[name]}.')
  about = signature(builder)
  # Of those that `**options` take, no more is known than the name.
  named = lambda name: about.parameters.get(name) or inspect.Parameter(
      name, inspect.Parameter.KEYWORD_ONLY)
  return Bound(
      space.field, spec.name, builder,
      {name: _bind_value(x, space, named(name))
       for name, x in arguments.items()},
      tuple(_bind_value(x, space, about.rest) for x in rest),
      tuple(n for n in about.keywords if n in known and n not in arguments),
      tuple({*about.traceable, *space.traceable(builder),
             *getattr(builder, 'traceable', ())}),
      {} if is_part else {n: n for n in space.same} | dict(space.fields),
      argument is None and not as_function)


def _arguments(
    spec: specs.Call, builder: Builder, field: str, known: frozenset[str],
    fields: Mapping[str, str],
) -> tuple[dict[str, Any], tuple[Any, ...]]:
  """Arguments by name, in the signature's order, and what *args takes."""
  about = signature(builder)

  def wrong(what: str) -> ValueError:
    return ValueError(f'{field}={specs.text_of(spec)}: {spec.name} {what} It '
                      f'is {about.text(spec.name, known)}.')

  free = [name for name in about.positional if name not in known]
  arguments = dict(zip(free, spec.args, strict=False))
  rest = spec.args[len(free):]
  if rest and about.rest is None:
    count = f'{len(free)} argument' + 's' * (len(free) != 1)
    raise wrong(f'takes {count} without a keyword, got {len(spec.args)}.')
  for name, value in spec.kwargs.items():
    if name in arguments:
      raise wrong(f'is given {name} twice.')
    if name not in about.keywords and not about.open:
      raise wrong(f'has no argument {name!r}.'
                  f'{_meant(name, about.keywords, known, fields)}')
    arguments[name] = value
  for name in about.keywords:
    needed = about.parameters[name].default is about.parameters[name].empty
    if needed and name not in arguments and name not in known:
      raise wrong(f'needs {name}.')
  names = [*about.keywords, *arguments]
  return {n: arguments[n] for n in names if n in arguments}, rest


def _bind_value(
    value: Any, space: Namespace, argument: inspect.Parameter
) -> Any:
  if isinstance(value, specs.Call | specs.Chain):
    is_function = has_callable(argument.annotation)
    return _bind(value, space, is_function, argument)
  if isinstance(value, list | tuple):
    return type(value)(_bind_value(x, space, argument) for x in value)
  if isinstance(value, dict):
    return {k: _bind_value(x, space, argument) for k, x in value.items()}
  return value


def _check_kinds(
    bound: Bound, keywords: Mapping[str, Any], rest: list[Any]
) -> None:
  """ValueError if an argument is of another kind than its parameter."""
  about = signature(bound.builder)
  pairs = [(about.parameters[name], x) for name, x in keywords.items()
           if name in about.parameters] + [(about.rest, x) for x in rest]
  for parameter, value in pairs:
    wrong = argument_kinds.problem(parameter, value)
    if wrong:
      raise ValueError(
          f'{bound.field}={text_of(bound)}: {parameter.name} {wrong}. It is '
          f'{about.text(bound.name, bound.context)}.')


def _call(bound: Bound, given: list[Any], keywords: dict[str, Any]) -> Any:
  with blamed(bound.field, text_of(bound)):
    try:
      return bound.builder(*given, **keywords)
    except ValueError as error:
      named = _of_field(bound, error)
      if named is None:
        raise
      raise named from error
    except TypeError as error:
      shown = signature(bound.builder).text(bound.name, bound.context)
      raise TypeError(f'{one_line(error)}. It is {shown}') from error


def _meant(
    name: str, keywords: list[str], known: frozenset[str],
    fields: Mapping[str, str],
) -> str:
  """What a wrong keyword may have meant; '' if nothing is near.

  Args:
    name: the keyword.
    keywords: those that there are.
    known: those that are not given in a spec.
    fields: by which fields they are given.
  """
  found = checks.near(name, keywords)
  if found in known and found in fields:
    return f' Its {found} is given by the field {fields[found]}.'
  return checks.near_hint(name, keywords)


class _OfFieldError(ValueError):
  """Begins with the field that has set what was refused."""


def _of_field(bound: Bound, error: ValueError) -> _OfFieldError | None:
  """The error with the config's field, if it begins with what one has set."""
  found = re.match(r'(\w+)(?=[ =])', str(error))
  if not found:
    return None
  of_parameters = {*bound.context} & {*bound.fields}
  if found[1] not in of_parameters:
    # Several fields may make one argument, such as an aggregator.
    makers = re.findall(r'\w+', ' '.join(
        bound.fields[name] for name in of_parameters
        if ', ' in bound.fields[name]))
    return _OfFieldError(str(error)) if found[1] in makers else None
  field = bound.fields[found[1]].split(' (')[0]
  said, did, meant = str(error)[found.end():].partition(' Did you mean')
  return _OfFieldError(f'{field}{_sentence(said)}, for '
                       f'{bound.field}={text_of(bound)}.{did}{meant}')


@contextlib.contextmanager
def naming_whole(field: str, text: str) -> Iterator[None]:
  """Puts all of a field's text before what is said of a part of it."""
  try:
    yield
  except ValueError as error:
    start, whole, said = f'{field}=', f'{field}={text}', str(error)
    told = not said.startswith(start) or said.startswith(whole)
    if told or len(text) > _LONGEST:
      raise
    raise type(error)(f'{whole}: {said.removeprefix(start)}') from error


@contextlib.contextmanager
def blamed(field: str, text: str) -> Iterator[None]:
  """Makes any exception within a ValueError that names a field and its spec."""
  try:
    yield
  except ValueError as error:
    told = str(error).startswith((f'{field} ', f'{field}='))
    if told or isinstance(error, _OfFieldError):
      raise
    ours = type(error).__module__.startswith(f'{__name__.split(".")[0]}.')
    kind = type(error) if ours else ValueError  # Callers tell ours apart.
    raise kind(f'{field}={text}: {_ended(error)}') from error
  except (Exception, SystemExit) as error:
    raise ValueError(f'{field}={text}: {type(error).__name__}: '
                     f'{_ended(error)}') from error


def one_line(error: Exception) -> str:
  """What an exception says, without line breaks and the last full stop."""
  return _sentence(str(error))


def _ended(error: Exception) -> str:
  """`one_line` with its end: a question has one."""
  said = one_line(error)
  return said if said.endswith('?') else f'{said}.'


def _sentence(text: str) -> str:
  return re.sub(r'\s+', ' ', text).rstrip().removesuffix('.')
