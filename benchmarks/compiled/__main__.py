"""What a round becomes on an H100 and on a TPU, compiled without having one.

  python -m benchmarks.compiled --setup                 make environments
  python -m benchmarks.compiled --target gpu --model mnist_2nn --clients 10
      [--devices 4] [--unequal] [--algorithm scaffold] [--lanes 10]
      [--checkout DIR] [--dump DIR]                     one case

XLA compiles for a device that is only described. That tells no time, but all
that time is made of: kernels a local step, what is one CUDA graph, loops that
the host drives, bytes, memory, collectives. `--checkout` compiles another
revision's package, `--dump` keeps the program and XLA's list of launches.
"""

import argparse
import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from benchmarks import contenders
from benchmarks.compiled import facts
from benchmarks.compiled.targets import TARGETS
from benchmarks.contenders import ROOT

REQUIREMENTS = Path(__file__).parent / 'requirements'


class CompilationError(RuntimeError):
  """A case could not be compiled; the message says why."""


def compile_case(
    case: dict[str, Any], checkout: Path, folder: Path
) -> dict[str, Any]:
  """Compiles one case in a process of its own, and reads what came out.

  Args:
    case: arguments of `deviceless.build`.
    checkout: whose package.
    folder: for the program.

  Raises:
    CompilationError: it failed.
  """
  target = TARGETS[case['target']]
  shutil.rmtree(folder, ignore_errors=True)
  folder.mkdir(parents=True)
  job = folder / 'job.json'
  job.write_text(json.dumps({'checkout': str(checkout), 'case': case}))
  environment = os.environ | {
      'JAX_PLATFORMS': 'cpu', 'TPU_SKIP_MDS_QUERY': '1',
      'CUDA_VISIBLE_DEVICES': '', 'TF_CPP_MIN_LOG_LEVEL': '3',
      # There is no device to try kernels on.
      'XLA_FLAGS': f'--xla_gpu_autotune_level=0 --xla_dump_to={folder} '
      '--xla_dump_hlo_module_re=jit_run.*'}
  environment.pop('PYTHONPATH', None)
  done = subprocess.run(
      [contenders.folder(target.environment) / 'bin' / 'python', '-m',
       'benchmarks.compiled.worker', str(job)],
      cwd=ROOT, env=environment, capture_output=True, text=True)
  if done.returncode:
    raise CompilationError(
        '\n'.join(done.stderr.strip().splitlines()[-3:])[-2000:])
  told = json.loads(done.stdout.splitlines()[-1])
  return told | facts.read(folder, target)


def in_words(result: dict[str, Any]) -> str:
  """A case's facts, one a line."""
  return '\n'.join(f'{name}: {value}' for name, value in result.items())


def main() -> None:
  arguments = _parse()
  if arguments.setup:
    for target in TARGETS.values():
      contenders.setup(target.environment, REQUIREMENTS)
    return
  case = {name: getattr(arguments, name) for name in (
      'target', 'model', 'algorithm', 'clients', 'devices', 'unequal',
      'lanes')}
  with tempfile.TemporaryDirectory() as folder:
    print(in_words(compile_case(
        case, arguments.checkout.absolute(),
        (arguments.dump or Path(folder)).absolute())))


def _parse() -> argparse.Namespace:
  parser = argparse.ArgumentParser(
      description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
  parser.add_argument('--setup', action='store_true')
  parser.add_argument('--target', choices=TARGETS, default='gpu')
  parser.add_argument('--model', default='mnist_2nn')
  parser.add_argument('--algorithm', default='fedavg')
  parser.add_argument('--clients', type=int, default=10)
  parser.add_argument('--devices', type=int, default=1)
  parser.add_argument('--unequal', action='store_true')
  parser.add_argument(
      '--lanes', type=lambda x: x if x == 'auto' else int(x), default='auto')
  parser.add_argument('--checkout', type=Path, default=ROOT)
  parser.add_argument('--dump', type=Path)
  return parser.parse_args()


if __name__ == '__main__':
  main()
