"""What a config file or a flag has done wrong, in one line."""

import re
import traceback
from collections.abc import Iterator
from pathlib import Path

from absl import flags

from fedjax_sim.experiment import check_config
from fedjax_sim.experiment.config import Config, wrong_type


def told(error: Exception, file: str, flag: flags.Flag) -> str:
  """What an exception says to the author of the config or the flags.

  Args:
    error: raised while the flags were read.
    file: of the config.
    flag: --config, as far as it was read.

  Returns:
    One line: with the line of the file where it is the file's, and with the
    field where it is that of a flag.
  """
  for one in _chain(error):
    line = _line(one, file)
    if line is not None:
      plain = type(one) is ValueError
      kind = '' if plain else f'{type(one).__name__}: '
      return f'{file}, line {line}: {kind}{_one_line(one)}'
  return _of_flag(error, flag.value) or _one_line(error)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
  """The exception, and those that it came from, the first one first."""
  found = []
  while error is not None and error not in found:
    found.append(error)
    error = error.__cause__ or error.__context__
  return reversed(found)


def _line(error: BaseException, file: str) -> int | None:
  """The line of a file where an exception was raised."""
  same = lambda name: bool(name) and Path(name).absolute() == (
      Path(file).absolute())
  if isinstance(error, SyntaxError) and same(error.filename):
    return error.lineno
  lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__)
           if same(frame.filename)]
  return lines[-1] if lines else None


def _of_flag(error: Exception, config: Config | None) -> str | None:
  """For a flag such as --config.rounds=x, what the field must be."""
  name = re.search(r'\w+', str(error))
  if isinstance(error, KeyError | AttributeError) and name:
    return check_config.unknown_field(name[0])
  found = re.match(r'flag --config\.(\w+)=(.*?): ', str(error), re.DOTALL)
  if found is None or config is None or found[1] not in config:
    return None
  return str(wrong_type(
      found[1], found[2], config.get_type(found[1])))


def _one_line(error: BaseException) -> str:
  """Its text without line breaks; a KeyError's without the quotes."""
  whole = isinstance(error, KeyError) and error.args
  return ' '.join(str(error.args[0] if whole else error).split())
