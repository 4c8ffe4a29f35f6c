"""What a sweep is of: fields and their values, and who shares a program.

Runs that differ in the seed, in fields of `TRACED` and in traceable numbers of
the specs of a round share a compiled program, whose inputs these are.
"""

import ast
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from fedjax_sim.core import builders, checks, specs, variants
from fedjax_sim.experiment import moved_fields, spec_fields
from fedjax_sim.experiment.build_algorithm import TRACED

Setting = dict[str, Any]


def parse(config: ConfigDict, texts: Sequence[str]) -> dict[str, list[Any]]:
  """Field -> values, from texts such as 'client_lr=0.01,0.03'.

  Values of specs are split at commas outside of parentheses, and are returned
  as their canonical text.

  Raises:
    ValueError: not of that form, or no field of the config.
  """
  fields = {}
  for text in texts:
    name, equals, values = text.partition('=')
    if not equals or not values:
      raise ValueError(
          f'sweep must be field=value,value,..., got {text!r}.')
    _refuse_moved(config, name, values)
    checks.one_of('sweep', name, config.keys())
    if name in fields:
      raise ValueError(f'sweep: {name} is given twice; put all its values into '
                       'one --sweep.')
    fields[name] = [_value(config, name, v) for v in specs.split(values)]
    if _has_repeated([_identity(name, value) for value in fields[name]]):
      raise ValueError(f'sweep: the values of {name} must differ, got '
                       f'{values!r}.')
  return fields


def groups(
    config: ConfigDict, fields: Mapping[str, Sequence[Any]]
) -> list[tuple[ConfigDict, list[Setting]]]:
  """All combinations of values, by the program that they need.

  Returns:
    For each program a config, and of each of its runs the seed and the fields
    that differ among them.
  """
  programs: dict[tuple, list[Setting]] = {}
  for values in itertools.product(*fields.values()):
    setting = dict(zip(fields, values, strict=True))
    key = tuple(_static_part(config, setting, name) for name in fields)
    programs.setdefault(key, []).append(setting)
  found = []
  for settings in programs.values():
    one = with_fields(config, settings[0])
    vary = [name for name in fields
            if any(s[name] != settings[0][name] for s in settings)]
    found.append((one, [
        {'seed': s.get('seed', config.seed)} | {n: s[n] for n in vary}
        for s in settings]))
  return found


def with_fields(config: ConfigDict, fields: Mapping[str, Any]) -> ConfigDict:
  """A copy of a config with other values of some fields."""
  copy = config.copy_and_resolve_references().unlock()
  copy.update(fields)
  return copy


def label(
    fields: Sequence[str], config: ConfigDict, setting: Setting
) -> str:
  """A run's name: the fields that are swept, and their values."""
  values = {**config.to_dict(), **setting}
  return ','.join(f'{name}={_shown(values[name])}' for name in fields)


def _shown(value: Any) -> str:
  """A value in a name; an empty text, as of no uplink, is 'none'."""
  if value == '':
    return 'none'
  return f'{value:g}' if isinstance(value, float) else f'{value}'


def _identity(name: str, value: Any) -> Any:
  """Equal for values of one run, such as ditto(lam=1) and ditto(lam=1.0)."""
  if name not in spec_fields.OF_A_ROUND or not value:
    return str(value)
  bound = spec_fields.bind(name, value)
  return variants.skeleton(bound), variants.numbers(bound)


def _has_repeated(values: Sequence[Any]) -> bool:
  return any(value in values[:i] for i, value in enumerate(values))


def _static_part(config: ConfigDict, setting: Setting, name: str) -> Any:
  """What of a field's value makes a program of its own; None for nothing."""
  value = setting[name]
  if _chooses_by_losses(config, setting):
    return str(value)
  if name in TRACED:
    return None
  if name == 'seed':
    return value if _uses_seed(config, setting) else None
  if name in spec_fields.OF_A_ROUND:
    bound = spec_fields.bind(name, value)
    return '' if bound is None else variants.skeleton(bound)
  return str(value)


def _uses_seed(config: ConfigDict, setting: Setting) -> bool:
  """Whether a builder of what a round computes is given the seed."""
  texts = {name: setting.get(name, config[name])
           for name in spec_fields.OF_A_ROUND}
  bound = [spec_fields.bind(name, text) for name, text in texts.items()]
  return any('seed' in builders.taken(b) for b in bound if b is not None)


def _chooses_by_losses(config: ConfigDict, setting: Setting) -> bool:
  """Whether cohorts depend on a run's own model; such runs share nothing."""
  bound = spec_fields.bind('sampler', setting.get('sampler', config.sampler))
  return getattr(getattr(bound, 'builder', None), 'by_losses', False)


def _value(config: ConfigDict, name: str, text: str) -> Any:
  if name in spec_fields.spaces():
    bound = spec_fields.bind(name, text)
    return '' if bound is None else builders.text_of(bound)
  kind = config.get_type(name)
  if kind is str:
    return text
  try:
    value = ast.literal_eval(text)
    if kind is int and not isinstance(value, int):
      raise ValueError('not whole')
    return float(value) if kind is float else value
  except (ValueError, SyntaxError, TypeError) as error:
    raise ValueError(f'sweep: {name} must be of type {kind.__name__}, got '
                     f'{text!r}.') from error


def _refuse_moved(config: ConfigDict, name: str, values: str) -> None:
  """ValueError with the new text for a sweep over an old field."""
  if name not in moved_fields.NAMES:
    return
  texts = {field: config[field] for field in spec_fields.spaces()}
  new = [moved_fields.new_texts({name: moved_fields.value_of(value)}, texts)
         for value in specs.split(values)]
  (field,) = new[0]
  written = ','.join(one[field] for one in new)
  raise ValueError(
      f'sweep: there is no field {name} any more, it is a part of {field}. '
      f'Write --sweep={moved_fields.quoted(f"{field}={written}")}.')
