"""A run's folder: its config, its metrics, whether it may go on there."""

import contextlib
import hashlib
import json
import os
import platform
import subprocess
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import jax

from fedjax_sim.core import files, sealed_json

Config = dict[str, Any]

# These don't change what a round computes, so a run may go on with others.
_FREE_FIELDS = frozenset([
    'best_metric', 'best_mode', 'client_eval_every', 'data_dir', 'rounds',
    'eval_every', 'record_cohort', 'eval_batch_size', 'targets',
    'on_divergence', 'devices', 'lanes', 'examples', 'client_state',
    'micro_batch_size', 'rounds_per_dispatch', 'checkpoint_seconds',
    'keep_checkpoints', 'tensorboard'])

# Fields that came later, and what runs had that have none.
_LATER = {'precision': 'auto'}

# Says what results a run has left; see `results`.
RESULTS_FILE = 'results.json'

# What a folder may hold before a run has begun.
_BEFORE_RESULTS = frozenset({'.lock', 'config.json'})

_PACKAGES = ('fedjax_sim', 'jax', 'jaxlib', 'flax', 'optax', 'numpy',
             'orbax-checkpoint')


def identity(config: Config) -> Config:
  """The fields that a run's results depend on."""
  return {k: v for k, v in config.items()
          if k not in _FREE_FIELDS and (k, v) not in _LATER.items()}


def short_hash(config: Config) -> str:
  """Eight hex digits of the fields that a run's results depend on."""
  text = json.dumps(identity(config), sort_keys=True)
  return hashlib.sha256(text.encode()).hexdigest()[:8]


def prepare(path: Path) -> list[Path]:
  """Makes the folder.

  Returns:
    The folders that were made, it and its parents, the innermost first.

  Raises:
    ValueError: it can't be written.
  """
  try:
    made = [one for one in (path, *path.parents) if not one.exists()]
    path.mkdir(parents=True, exist_ok=True)
    probe = files.part_of(path / 'write_test')
    probe.write_text('')
    probe.unlink()
  except OSError as error:
    raise ValueError(
        f"workdir {str(path)!r} can't be written: {error.strerror}. Name "
        'another one with --workdir.') from error
  return made


@contextlib.contextmanager
def unmade_if_refused(made: Sequence[Path]) -> Iterator[None]:
  """Takes away what `prepare` made if a ValueError comes before any result.

  Meant to be used while the folder is held, so that no other run begins in it.
  """
  try:
    yield
  except ValueError:
    if made and {one.name for one in made[0].iterdir()} <= _BEFORE_RESULTS:
      for name in _BEFORE_RESULTS:
        (made[0] / name).unlink(missing_ok=True)
      with contextlib.suppress(OSError):  # Something else lies there.
        for one in made:
          one.rmdir()
    raise


def read_record(path: Path) -> dict[str, Any] | None:
  """What config.json says, or None if the folder holds no run.

  Raises:
    ValueError: the file is not one that a run wrote, or there are results
      without it.
  """
  file = path / 'config.json'
  if not file.exists():
    for name in ('metrics.jsonl', 'checkpoints'):
      # A run that ended while it was being set up leaves an empty folder.
      if any(path.glob(f'{name}/[0-9]*')) or (path / name).is_file():
        raise ValueError(
            f'workdir {str(path)!r} has {name} but no config.json, so it is '
            'not known which experiment it holds. Name another --workdir.')
    return None
  try:
    record = sealed_json.read(file)
  except OSError as error:
    raise ValueError(f"{file} can't be read: {error.strerror}.") from error
  except ValueError as error:
    raise ValueError(
        f'{error} Put back the file that the run wrote, or name another '
        '--workdir.') from error
  kinds = {'config': dict, 'resolved': dict, 'environments': list}
  if not all(isinstance(record.get(k), kind) for k, kind in kinds.items()):
    raise ValueError(
        f'{file} is not the record of a run. Name another --workdir.')
  return record


def check_same(
    path: Path, record: dict[str, Any], config: Config,
    hint: str = 'Name another one, or leave it out: run.py has one for each '
                'config.',
) -> None:
  """ValueError with the difference if the folder holds another experiment.

  Args:
    path: the folder.
    record: of its config.json.
    config: what is to be run.
    hint: what the user can do.
  """
  old, new = identity(record['config']), identity(config)
  if old == new:
    return
  names = sorted(k for k in old.keys() | new.keys() if old.get(k) != new.get(k))
  told = lambda fields, name: repr(fields.get(name, _LATER.get(name)))
  difference = '\n'.join(
      f'  {name}: {told(old, name)} there, {told(new, name)} now'
      for name in names)
  raise ValueError(
      f'workdir {str(path)!r} holds another run:\n{difference}\n{hint}')


def write_record(
    path: Path, config: Config, resolved: dict[str, Any],
    earlier: dict[str, Any] | None,
) -> None:
  """Writes config.json: config, what was resolved, who ran it, versions."""
  environments = list(earlier['environments']) if earlier else []
  here = environment()
  if not environments or environments[-1] != here:
    environments.append(here)
  record = {'config': config, 'resolved': resolved,
            'environments': environments}
  write_json(path / 'config.json', record)


def environment() -> dict[str, Any]:
  """Versions, device and commit: what else a run's bits depend on."""
  device = jax.devices()[0]
  return {
      'versions': {name: _version(name) for name in _PACKAGES},
      'python': platform.python_version(),
      'device': f'{device.platform}: {device.device_kind}',
      'machine': f'{_processor()}, {os.cpu_count()} cores',
      'git_commit': _git_commit(),
  }


def _version(package: str) -> str | None:
  """None for what runs from a folder without being installed."""
  with contextlib.suppress(metadata.PackageNotFoundError):
    return metadata.version(package)
  return None


def _processor() -> str:
  """The processor's name, where the system tells it."""
  with contextlib.suppress(OSError):
    for line in Path('/proc/cpuinfo').read_text().splitlines():
      if line.startswith('model name'):
        return line.partition(':')[2].strip()
  return platform.machine()


def read_json(path: Path) -> dict[str, Any] | None:
  """What a file that `write_json` wrote holds, None if there is none.

  Raises:
    ValueError: it is not what was written.
  """
  return sealed_json.read(path) if path.exists() else None


def write_json(path: Path, value: dict[str, Any]) -> None:
  """Writes an object atomically, with a checksum."""
  sealed_json.write(path, value)


def as_json(value: Any) -> Any:
  """What comes back after writing and reading: tuples become lists."""
  return json.loads(json.dumps(value))


def _git_commit() -> str | None:
  """The commit of the source that runs, None outside a git checkout.

  A folder that only lies within somebody's checkout has no commit.
  """
  root = Path(__file__).parents[2]
  if not (root / '.git').exists():
    return None
  with contextlib.suppress(OSError, subprocess.SubprocessError):
    git = lambda *args: subprocess.run(
        ['git', '-C', str(Path(__file__).parent), *args], check=True,
        capture_output=True, text=True, timeout=5).stdout.strip()
    changed = '+changes' if git('status', '--porcelain', '-uno') else ''
    return git('rev-parse', 'HEAD') + changed
  return None
