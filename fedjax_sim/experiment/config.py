"""The dict of an experiment's fields, which refuses values of another type."""

from typing import Any

from ml_collections import ConfigDict, FieldReference

from fedjax_sim.core import checks

# What an error calls the types of fields.
_WANTED = {str: 'text', bool: 'True or False', int: 'a whole number',
           float: 'a number', tuple: 'a list of numbers'}


class Config(ConfigDict):
  """A `ConfigDict` whose fields keep their types, and say what these are.

  A whole number is a number too, and NumPy's scalars are Python's; True and
  False are no numbers, and None is no value.
  """

  def __setitem__(self, name: str, value: Any) -> None:
    """Sets a field.

    Raises:
      ValueError: the field is there, and is of another type.
    """
    if name in self and not isinstance(value, FieldReference):
      value = of_type(name, value, self.get_type(name))
    super().__setitem__(name, value)


def of_type(name: str, value: Any, kind: type) -> Any:
  """A field's value as its type.

  Raises:
    ValueError: it is of another type.
  """
  fits = {
      str: lambda: isinstance(value, str),
      bool: lambda: isinstance(checks.unwrapped(value), bool),
      int: lambda: checks.is_whole(value),
      float: lambda: checks.is_number(value),
      tuple: lambda: isinstance(value, list | tuple)}
  if kind not in fits:  # Of several types; `check_config` knows them.
    return checks.unwrapped(value)
  if not fits[kind]():
    raise wrong_type(name, value, kind)
  try:
    return kind(value)
  except OverflowError:  # Of whole numbers that are no float.
    raise wrong_type(name, value, kind) from None


def wrong_type(name: str, value: Any, kind: type) -> ValueError:
  """What is raised for a value that is of another type than its field."""
  wanted = _WANTED.get(kind, f'a {kind.__name__}')
  return ValueError(
      f'config.{name} must be {wanted}, got {checks.shown(value)}.')
