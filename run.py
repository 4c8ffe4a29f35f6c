"""Runs an experiment: python run.py --config=configs/mnist_noniid.py

Any field can be changed: --config.client_lr=0.2. See configs/default.py.
"""

import ast
import sys
from pathlib import Path

from absl import app, flags
from ml_collections import config_flags

_CONFIG = config_flags.DEFINE_config_file(
    'config', None, 'The experiment, a file in configs/.', lock_config=True)
_WORKDIR = flags.DEFINE_string(
    'workdir', None, 'Where results go; default: runs/<config name>-<hash>.')
_DRY_RUN = flags.DEFINE_bool(
    'dry_run', False, 'Build all, print sizes, memory and cost; train nothing.')


def main(argv: list[str]) -> int:
  from fedjax_sim import experiment  # after the flags: --help stays fast
  if len(argv) > 1:
    raise app.UsageError(f'unknown argument {argv[1]!r}')
  name = Path(config_flags.get_config_filename(flags.FLAGS['config'])).stem
  try:
    return experiment.run(_CONFIG.value, name, workdir_path=_WORKDIR.value,
                          dry_run=_DRY_RUN.value)
  except ValueError as error:
    print(f'error: {error}', file=sys.stderr)
    return 1
  except KeyboardInterrupt:  # Before the first round, or for the second time.
    print('stopped; the same command goes on from the last checkpoint',
          file=sys.stderr)
    return experiment.EXIT_STOPPED


def _parse(argv: list[str]) -> list[str]:
  """Flags, with unknown config fields and bad values told in one line."""
  flags.FLAGS.verbosity = -1  # warnings; app.run would make a default 0
  for argument, following in zip(argv, [*argv[1:], ''], strict=True):
    name, equals, value = argument.lstrip('-').partition('=')
    file = value if equals else following
    if name == 'config' and not Path(file.partition(':')[0]).is_file():
      print(f'error: there is no config file {file!r}', file=sys.stderr)
      sys.exit(1)
  try:
    rest = flags.FLAGS(argv)
  except (flags.Error, AttributeError, KeyError, TypeError, ValueError,
          OSError) as error:
    message = str(error.args[0] if error.args else error)
    if message[:1] == message[-1:] == "'":  # A KeyError's, as Python quotes it.
      message = ast.literal_eval(message)
    message = ' '.join(message.split())
    print(f'error: {message}', file=sys.stderr)
    sys.exit(1)
  if _CONFIG.value is None:
    print('error: which experiment? --config=configs/mnist_noniid.py',
          file=sys.stderr)
    sys.exit(1)
  return rest


if __name__ == '__main__':
  app.run(main, flags_parser=_parse)
