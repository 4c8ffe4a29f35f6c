"""Compiles a case in the environment of its target."""

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

from benchmarks import contenders
from benchmarks.compiled import facts
from benchmarks.compiled.matrix import Case
from benchmarks.compiled.targets import TARGETS
from benchmarks.contenders import ROOT

_TOLD = 'told.json'


class CompilationError(RuntimeError):
  """A case could not be compiled; the message says why."""


def compiled(case: Case, checkout: Path, folder: Path) -> dict[str, Any]:
  """Compiles one case in a process of its own, and reads what came out.

  Args:
    case: what.
    checkout: whose package.
    folder: is emptied, and holds the program then.

  Raises:
    CompilationError: it failed.
  """
  shutil.rmtree(folder, ignore_errors=True)
  folder.mkdir(parents=True)
  job = folder / 'job.json'
  job.write_text(json.dumps(
      {'checkout': str(checkout), 'case': case._asdict()}))
  environment = os.environ | {
      'JAX_PLATFORMS': 'cpu', 'TPU_SKIP_MDS_QUERY': '1',
      'ALLOW_MULTIPLE_LIBTPU_LOAD': '1',  # Others may compile too.
      'CUDA_VISIBLE_DEVICES': '', 'TF_CPP_MIN_LOG_LEVEL': '3',
      # There is no device to try kernels on.
      'XLA_FLAGS': f'--xla_gpu_autotune_level=0 --xla_dump_to={folder} '
      '--xla_dump_hlo_module_re=jit_run.*'}
  environment.pop('PYTHONPATH', None)
  python = contenders.folder(
      TARGETS[case.target].environment) / 'bin' / 'python'
  if not python.exists():
    raise CompilationError(
        'to make its environment: python -m benchmarks.compiled --setup')
  done = subprocess.run(
      [python, '-m', 'benchmarks.compiled.worker', str(job)],
      cwd=ROOT, env=environment, capture_output=True, text=True)
  if done.returncode:
    raise CompilationError(
        '\n'.join(done.stderr.strip().splitlines()[-3:])[-2000:])
  (folder / _TOLD).write_text(done.stdout.splitlines()[-1])
  return read(case, folder)


def read(case: Case, folder: Path) -> dict[str, Any]:
  """What a folder tells of the case that was compiled into it."""
  told = json.loads((folder / _TOLD).read_text())
  return told | facts.read(folder, TARGETS[case.target])
