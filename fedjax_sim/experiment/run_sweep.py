"""A sweep of a config: `run.py --sweep=client_lr=0.1,0.3 --sweep=seed=0,1`.

Runs that share a program (see `sweep_settings`) are the members of one sweep;
others make one sweep after the other. The folder holds a folder for each run,
named by what is swept, with all that a run of its own leaves; one table and one
plot. A sweep that was stopped or killed goes on from its last checkpoint.
"""

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from fedjax_sim.core import compilation, products
from fedjax_sim.core.cpu_devices import use_all_cores
from fedjax_sim.experiment import (
    build_sweep,
    loop,
    results,
    spec_fields,
    sweep_csv,
    sweep_group,
    sweep_report,
    sweep_settings,
    workdir,
)
from fedjax_sim.experiment.run import EXIT_DONE, EXIT_STOPPED
from fedjax_sim.experiment.sweep_settings import label


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
  compilation.keep_programs()
  # Before the checks, which compute. In a process where JAX runs already, what
  # it runs on is what there is.
  with contextlib.suppress(ValueError):
    use_all_cores()
  groups = sweep_settings.groups(config, fields)
  build_sweep.check(groups)
  plain = workdir.as_json(
      spec_fields.canonical(config) | {'sweep': dict(fields)})
  folder = Path(workdir_path or Path('runs') / (
      f'{name}-sweep-{workdir.short_hash(plain)}'))
  made = workdir.prepare(folder)
  with loop.exclusive(folder), workdir.unmade_if_refused(made):
    record = workdir.read_record(folder)
    if record is not None:
      workdir.check_same(folder, record, plain)
    # Where members lie depends on it, so a sweep goes on with as many.
    resolved = {
        'devices': len(jax.devices()),
        'precision': products.resolved(
            config.precision, compilation.platform_of(jax.devices()[0])),
    } | (record['resolved'] if record else {})
    workdir.write_record(folder, plain, resolved, record)
    devices = resolved['devices']
    for i, (one, settings) in enumerate(groups):
      labels = [label(fields, one, setting) for setting in settings]
      most = devices if one.devices == 'auto' else one.devices
      if one.precision == 'auto' and len(settings) > 1:
        one.precision = resolved['precision']
      if not sweep_group.run(folder, f'{i}', one, settings, labels, most):
        return EXIT_STOPPED
    _report(folder, config, groups, fields)
  return EXIT_DONE


def _report(folder: Path, config: ConfigDict, groups, fields) -> None:
  """A table of all runs, their records, and a plot of medians over seeds."""
  curves, rounds, swept = {}, {}, {}
  for one, settings in groups:
    for setting in settings:
      without_seed = label([n for n in fields if n != 'seed'], one, setting)
      own = label(fields, one, setting)
      curves[own], rounds[own] = without_seed or config.model, one.rounds
      swept[own] = {
          name: {**one.to_dict(), **setting}[name] for name in fields}
  sweep_csv.write(folder, swept)
  sweep_report.write(
      folder, curves, rounds, config.targets,
      held_out=any(one.client_test_fraction for one, _ in groups))
  results.complete(folder, config.rounds, config.targets)
