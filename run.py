"""Runs an experiment: python run.py --config=configs/mnist_noniid.py

Any field can be changed: --config.client_lr=0.2, also one that names a thing:
--config.algorithm='ditto(lam=0.1)'. See configs/default.py and docs/specs.md.
"""

import sys
from pathlib import Path

from absl import app, flags
from ml_collections import config_flags

_CONFIG = config_flags.DEFINE_config_file(
    'config', None, 'The experiment, a file in configs/.', lock_config=True)
_WORKDIR = flags.DEFINE_string(
    'workdir', None, 'Where results go; default: runs/<config name>-<hash>.')
_PROCESSES = flags.DEFINE_integer(
    'processes', 1, 'Processes on this machine; with --process, of all.')
_PROCESS = flags.DEFINE_integer(
    'process', None, 'Which of --processes this is, if started one by one.')
_COORDINATOR = flags.DEFINE_string(
    'coordinator', None, 'host:port of process 0, if started one by one.')
_CLUSTER = flags.DEFINE_bool(
    'cluster', False, 'Join the processes that the cluster has started.')
_SWEEP = flags.DEFINE_multi_string(
    'sweep', [], 'Runs for all combinations: --sweep=client_lr=0.1,0.3 '
    "--sweep=seed=0,1,2 --sweep='algorithm=ditto(lam=0.1),ditto(lam=1.0)'.")
_DRY_RUN = flags.DEFINE_bool(
    'dry_run', False, 'Build all, print sizes, memory and cost; train nothing.')


def main(argv: list[str]) -> int:
  # After the flags: --help stays fast.
  from fedjax_sim.experiment import processes, run_sweep, sweep_settings
  from fedjax_sim.experiment import run as run_lib
  del argv
  file = Path(config_flags.get_config_filename(flags.FLAGS['config']))
  name = file.stem
  sys.path.append(str(file.resolve().parent))  # Its specs name files beside it.
  try:
    if _SWEEP.value and (_DRY_RUN.value or _CLUSTER.value
                         or _PROCESSES.value != 1):
      raise ValueError('--sweep runs in one process; leave out --dry_run, '
                       '--cluster and --processes.')
    if _CLUSTER.value:
      processes.join(None, None, None)
    elif (_PROCESS.value is None) != (_COORDINATOR.value is None):
      raise ValueError('--process and --coordinator go together, with '
                       '--processes: each process is told all three.')
    elif _PROCESS.value is not None:
      processes.join(_COORDINATOR.value, _PROCESSES.value, _PROCESS.value)
    elif _PROCESSES.value != 1:
      return processes.launch(_PROCESSES.value, _command)
    if _SWEEP.value:
      return run_sweep.run(
          _CONFIG.value, name, sweep_settings.parse(
              _CONFIG.value, _SWEEP.value), _WORKDIR.value)
    return run_lib.run(_CONFIG.value, name, workdir_path=_WORKDIR.value,
                       dry_run=_DRY_RUN.value)
  except ValueError as error:
    print(f'error: {error}', file=sys.stderr)
    processes.leave(1)
    return 1
  except OSError as error:  # Such as a full disk.
    print(f'error: {error.filename or "a file"}: {error.strerror or error}. '
          'What was there before is as it was; the same command goes on from '
          'the last checkpoint.', file=sys.stderr)
    processes.leave(1)
    return 1
  except KeyboardInterrupt:  # Before the first round, or for the second time.
    print('stopped; the same command goes on from the last checkpoint',
          file=sys.stderr)
    return run_lib.EXIT_STOPPED


def _command(index: int, coordinator: str) -> list[str]:
  """How to start one of --processes."""
  return [sys.executable, *sys.argv, f'--process={index}',
          f'--coordinator={coordinator}']


def _parse(argv: list[str]) -> list[str]:
  """Flags, with unknown config fields and bad values told in one line."""
  flags.FLAGS.verbosity = -1  # warnings; app.run would make a default 0
  file_of_config = ''
  for argument, following in zip(argv, [*argv[1:], ''], strict=True):
    name, equals, value = argument.lstrip('-').partition('=')
    file = value if equals else following
    if name != 'config':
      continue
    file_of_config = file.partition(':')[0]
    if not Path(file_of_config).is_file():
      print(f'error: there is no config file {file!r}', file=sys.stderr)
      sys.exit(1)
  try:
    moved = {}
    if any('config.' in argument for argument in argv):
      from fedjax_sim.experiment import moved_fields
      moved, argv = moved_fields.from_flags(argv)
      sys.argv = argv  # Where the config looks for its fields.
    rest = flags.FLAGS(argv)
    if moved:
      moved_fields.refuse(moved, _CONFIG.value.to_dict())
  except Exception as error:  # A config file is code, it may raise anything.
    from fedjax_sim.experiment import config_errors
    message = config_errors.told(error, file_of_config, flags.FLAGS['config'])
    print(f'error: {message}', file=sys.stderr)
    sys.exit(1)
  if len(rest) > 1:
    print(f'error: unknown argument {rest[1]!r}', file=sys.stderr)
    sys.exit(1)
  if _CONFIG.value is None:
    print('error: which experiment? --config=configs/mnist_noniid.py',
          file=sys.stderr)
    sys.exit(1)
  return rest


if __name__ == '__main__':
  app.run(main, flags_parser=_parse)
