"""Specs: text that names a thing, or calls the builder that makes it.

    'fedavg'   'ditto(lam=0.1)'   'clip(1.0) | adaptive_clip'
    'on("dense*", clip(1.0))'   'my_package.my_file.feddelay(beta=0.5)'

Arguments are literals, lists, tuples, dicts, or specs again, and `|` makes a
chain, of at most 100 parts. Parentheses nest 20 deep at most. This module reads
and writes the text. Nothing is looked up or called here, and no text is ever
evaluated; `core/builders.py` does the rest.
"""

import ast
import dataclasses
import math
import re
from collections.abc import Callable, Iterable
from keyword import kwlist
from typing import Any, TypeVar

from fedjax_sim.core import checks

_MOST_PARTS = 100
_DEEPEST = 20
_EXAMPLE = "'ditto(lam=0.1)', or several with |"
# Not those that are values.
_KEYWORDS = frozenset(kwlist) - {'True', 'False', 'None'}

Decorated = TypeVar('Decorated', bound=Callable[..., Any])


@dataclasses.dataclass(frozen=True)
class Call:
  """A name, or a call of it.

  Attributes:
    name: such as 'ditto', or with dots, 'my_package.my_file.feddelay'.
    args: what stands between the parentheses without a keyword.
    kwargs: what stands there with one, in the order of the text.
    bare: there are no parentheses.
  """

  name: str
  args: tuple[Any, ...] = ()
  kwargs: dict[str, Any] = dataclasses.field(default_factory=dict)
  bare: bool = False


@dataclasses.dataclass(frozen=True)
class Chain:
  """Several parts with `|` between them, the first one first."""

  parts: tuple[Call, ...]


Spec = Call | Chain


def traceable(*names: str) -> Callable[[Decorated], Decorated]:
  """Says which arguments of a builder may be traced numbers.

  Runs that differ in these alone share one compiled program, in which they are
  inputs. A builder must not branch on them or use them on the host: a rate or
  a clip norm may be traced, a number of bits or of clusters may not.

  Args:
    *names: of its parameters. Of a `TypedDict`, which can be decorated too,
      keys.

  Returns:
    A decorator that sets the attribute `traceable` and changes nothing else.
  """
  def decorate(builder: Decorated) -> Decorated:
    builder.traceable = names
    return builder
  return decorate


def parse(
    field: str, text: str, example: str = _EXAMPLE, names: Iterable[str] = ()
) -> Spec:
  """Reads a spec.

  Args:
    field: what holds the text, for errors.
    text: such as 'ditto(lam=0.1)'.
    example: what a text of this field looks like, for errors.
    names: that it may begin with, for errors.

  Raises:
    ValueError: the text is no spec; says where, and what one looks like.
  """
  try:
    if not isinstance(text, str):
      raise _NotASpecError('it is no text')
    if not text.strip():
      raise _NotASpecError('the field may not be empty')
    return _spec(_parsed(text.strip()))
  except (SyntaxError, ValueError, _NotASpecError) as error:
    why = f'{error}.'
    if isinstance(error, SyntaxError):
      why = _keyword_in(text, names) or f'{error.msg}.'
    raise ValueError(f'{field} must be a name or a call such as {example}, got '
                     f'{checks.shown(text)}: {why}') from error


def split(text: str, separator: str = ',') -> list[str]:
  """Splits where a separator stands outside all parentheses and quotes.

  'a(x=1, y="u,v"),b' gives ['a(x=1, y="u,v")', 'b'].
  """
  parts, depth, quote, escaped = [''], 0, '', False
  for letter in text:
    if quote:
      closes = letter == quote and not escaped
      escaped = letter == '\\' and not escaped
      quote = '' if closes else quote
    elif letter in '"\'':
      quote = letter
    elif letter in '([{':
      depth += 1
    elif letter in ')]}':
      depth -= 1
    elif letter == separator and depth == 0:
      parts.append('')
      continue
    parts[-1] += letter
  return [part.strip() for part in parts]


def text_of(value: Any) -> str:
  """The canonical text of a spec or of an argument.

  Reading it again gives an equal value. Spaces, quotes and the spelling of
  numbers (1e-3, 0.001) are the same in all texts of one value.
  """
  if isinstance(value, Chain):
    return ' | '.join(map(text_of, value.parts))
  if isinstance(value, Call):
    arguments = [*map(text_of, value.args), *(
        f'{name}={text_of(x)}' for name, x in value.kwargs.items())]
    return value.name + ('' if value.bare else f'({", ".join(arguments)})')
  if isinstance(value, list):
    return f'[{", ".join(map(text_of, value))}]'
  if isinstance(value, tuple):
    inner = ', '.join(map(text_of, value))
    return f'({inner},)' if len(value) == 1 else f'({inner})'
  if isinstance(value, dict):
    return '{' + ', '.join(
        f'{key!r}: {text_of(x)}' for key, x in value.items()) + '}'
  return repr(value)


def _keyword_in(text: str, names: Iterable[str]) -> str:
  """What is said of a keyword of Python that stands for a name; or ''."""
  unquoted = re.sub(r'"[^"]*"|\'[^\']*\'', '""', text)
  for found in re.finditer(r'(\w+)\s*(=?)', unquoted):
    word, is_argument = found.groups()
    if word in _KEYWORDS:
      near = '' if is_argument else checks.near_hint(word, names)
      return f'{word!r} is a keyword of Python and cannot be a name.{near}'
  return ''


class _NotASpecError(Exception):
  """A piece of the text has another form."""


def _parsed(text: str) -> ast.expr:
  """The syntax tree, if it is small enough to be walked by recursion."""
  too_large = _NotASpecError(
      f'it has more than {_MOST_PARTS} parts, or parentheses nest more than '
      f'{_DEEPEST} deep')
  try:
    body = ast.parse(text, mode='eval').body
  except (RecursionError, MemoryError):
    raise too_large from None
  nodes = [(body, 0, 1)]
  while nodes:
    node, depth, parts = nodes.pop()
    if depth > _DEEPEST or parts > _MOST_PARTS:
      raise too_large
    in_chain = isinstance(node, ast.BinOp)
    nodes += [(child, depth + (not in_chain and isinstance(child, ast.expr)),
               parts + 1 if in_chain else 1)
              for child in ast.iter_child_nodes(node)]
  return body


def _spec(node: ast.expr) -> Spec:
  if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
    parts = (_spec(node.left), _spec(node.right))
    return Chain(tuple(
        call for part in parts
        for call in (part.parts if isinstance(part, Chain) else (part,))))
  if isinstance(node, ast.Call):
    return _call(node)
  if isinstance(node, ast.Name | ast.Attribute):
    return Call(_name(node), bare=True)
  raise _NotASpecError(f'{_source(node)} is neither')


def _call(node: ast.Call) -> Call:
  kwargs = {}
  for keyword in node.keywords:
    if keyword.arg is None:
      raise _NotASpecError('** is not possible here')
    if keyword.arg in kwargs:
      raise _NotASpecError(f'{keyword.arg} is given twice')
    kwargs[keyword.arg] = _argument(keyword.arg, keyword.value)
  args = tuple(_argument(f'argument {i} of {_name(node.func)}', x)
               for i, x in enumerate(node.args, 1))
  return Call(_name(node.func), args, kwargs)


def _argument(name: str, node: ast.expr) -> Any:
  number = node.operand if isinstance(node, ast.UnaryOp) else node
  if isinstance(number, ast.Name) and number.id.lower() in (
      'nan', 'inf', 'infinity'):
    raise _NotASpecError(
        f'{name} must be finite, nan and inf are no values')
  return _value(node)


def _name(node: ast.expr) -> str:
  if isinstance(node, ast.Attribute):
    return f'{_name(node.value)}.{node.attr}'
  if isinstance(node, ast.Name):
    return node.id
  raise _NotASpecError(f'{_source(node)} is no name')


def _value(node: ast.expr) -> Any:
  if isinstance(node, ast.List):
    return [_value(x) for x in node.elts]
  if isinstance(node, ast.Tuple):
    return tuple(_value(x) for x in node.elts)
  if isinstance(node, ast.Dict) and None not in node.keys:
    return {_literal(key): _value(x)
            for key, x in zip(node.keys, node.values, strict=True)}
  if isinstance(node, ast.Constant | ast.UnaryOp):
    return _literal(node)
  return _spec(node)


def _literal(node: ast.expr) -> Any:
  try:
    value = ast.literal_eval(node)
  except ValueError as error:
    raise _NotASpecError(f'{_source(node)} is no literal') from error
  known = value is None or isinstance(value, bool | int | float | str)
  if not known or isinstance(value, float) and not math.isfinite(value):
    raise _NotASpecError(f'{_source(node)} is no finite number, text, True, '
                         'False or None')
  return value


def _source(node: ast.expr) -> str:
  return repr(ast.unparse(node))
