"""A sweep of a config: `run.py --sweep=client_lr=0.1,0.3 --sweep=seed=0,1`.

Runs that differ in the seed and in traced numbers only
(`build_algorithm.TRACED`) are the members of one sweep; other fields make one
sweep after the other. The folder holds a folder for each run, named by what is
swept, with all that a run of its own leaves; one table and one plot. A sweep
that was stopped or killed goes on from its last checkpoint.
"""

import ast
import contextlib
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from fedjax_sim.core import checks, compilation
from fedjax_sim.core.cpu_devices import use_all_cores
from fedjax_sim.experiment import build as build_lib
from fedjax_sim.experiment import loop, sweep_group, sweep_report, workdir
from fedjax_sim.experiment.run import EXIT_DONE, EXIT_STOPPED

Setting = dict[str, Any]


def parse(config: ConfigDict, texts: Sequence[str]) -> dict[str, list[Any]]:
  """Field -> values, from texts such as 'client_lr=0.01,0.03'.

  Raises:
    ValueError: not of that form, or no field of the config.
  """
  fields = {}
  for text in texts:
    name, equals, values = text.partition('=')
    if not equals or not values:
      raise ValueError(
          f'sweep must be field=value,value,..., got {text!r}.')
    checks.one_of('sweep', name, config.keys())
    if name in fields:
      raise ValueError(f'sweep: {name} is given twice; put all its values into '
                       'one --sweep.')
    fields[name] = [_value(config, name, v) for v in values.split(',')]
    if len(set(map(str, fields[name]))) != len(fields[name]):
      raise ValueError(f'sweep: the values of {name} must differ, got '
                       f'{values!r}.')
  return fields


def _value(config: ConfigDict, name: str, text: str) -> Any:
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


def run(
    config: ConfigDict, name: str, fields: Mapping[str, Sequence[Any]],
    workdir_path: str | None = None,
) -> int:
  """Runs every combination of the fields' values.

  Args:
    config: like configs/default.py.
    name: of the config, for the default workdir runs/<name>-sweep-<hash>.
    fields: field -> values.
    workdir_path: another workdir.

  Returns:
    The exit code: 0 done, 130 stopped by a signal.

  Raises:
    ValueError: bad input, before any work.
  """
  groups = _groups(config, fields)
  for one, settings in groups:
    for setting in settings:
      build_lib.check_setting(one, setting, settings[0])
  compilation.keep_programs()
  # In a process where JAX runs already, what it runs on is what there is.
  with contextlib.suppress(ValueError):
    use_all_cores()
  plain = workdir.as_json(config.to_dict() | {'sweep': dict(fields)})
  folder = Path(workdir_path or Path('runs') / (
      f'{name}-sweep-{workdir.short_hash(plain)}'))
  workdir.prepare(folder)
  with loop.exclusive(folder):
    record = workdir.read_record(folder)
    if record is not None:
      workdir.check_same(folder, record, plain)
    # Where members lie depends on it, so a sweep goes on with as many.
    devices = record['resolved']['devices'] if record else len(jax.devices())
    workdir.write_record(folder, plain, {'devices': devices}, record)
    for i, (one, settings) in enumerate(groups):
      labels = [_label(fields, one, setting) for setting in settings]
      if not sweep_group.run(folder, f'{i}', one, settings, labels, devices):
        return EXIT_STOPPED
    _report(folder, config, groups, fields)
  return EXIT_DONE


def _groups(config, fields) -> list[tuple[ConfigDict, list[Setting]]]:
  """Configs that need a program each, with their runs."""
  inner = [n for n in fields if n in build_lib.TRACED or n == 'seed']
  outer = [n for n in fields if n not in inner]
  groups = []
  for values in itertools.product(*(fields[n] for n in outer)):
    one = config.copy_and_resolve_references().unlock()
    one.update(dict(zip(outer, values, strict=True)))
    settings = [
        {'seed': config.seed, 'client_lr': config.client_lr}
        | dict(zip(inner, numbers, strict=True))
        for numbers in itertools.product(*(fields[n] for n in inner))]
    groups.append((one, settings))
  return groups


def _label(fields, one: ConfigDict, setting: Setting) -> str:
  """A run's name: the fields that are swept."""
  values = {**one.to_dict(), **setting}
  return ','.join(f'{n}={values[n]:g}' if isinstance(values[n], float)
                  else f'{n}={values[n]}' for n in fields)


def _report(folder: Path, config: ConfigDict, groups, fields) -> None:
  """One table and one plot of all runs, over seeds their median."""
  curves = {}
  for one, settings in groups:
    for setting in settings:
      without_seed = _label([n for n in fields if n != 'seed'], one, setting)
      curves[_label(fields, one, setting)] = without_seed or config.model
  sweep_report.write(
      folder, curves, config.rounds, config.targets,
      held_out=any(one.client_test_fraction for one, _ in groups))
