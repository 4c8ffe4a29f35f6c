"""Compiles one case in a target's environment; see `__main__.py`.

  python -m benchmarks.compiled.worker JOB.json

The job names the checkout whose package is compiled. Writes next to the job
`round.hlo.txt`, the optimized program, and for a GPU XLA's list of launches,
and prints what else is known as a JSON line.
"""

import json
import sys
import time
from importlib import metadata
from pathlib import Path

import jax

import benchmarks

_VERSIONS = ('jax', 'jaxlib', 'libtpu', 'jax-cuda13-pjrt', 'flax')
# Marks what belongs to a local step in the names of operations.
MARK = 'one_local_step'


def main() -> None:
  job_file = Path(sys.argv[1])
  job = json.loads(job_file.read_text())
  # Only now the package can be imported, and models of other benchmarks, from
  # where it was asked for.
  sys.path.insert(0, job['checkout'])
  benchmarks.__path__.insert(0, f'{job["checkout"]}/benchmarks')
  from benchmarks.compiled import deviceless, traced
  begun = time.perf_counter()
  simulation = deviceless.build(**job['case'])
  built = time.perf_counter() - begun
  compiled = simulation.program.compiled
  (job_file.parent / 'round.hlo.txt').write_text(compiled.as_text())
  memory = compiled.memory_analysis()
  print(json.dumps({
      'lanes': simulation.lanes, 'blocks': simulation.num_blocks,
      'phases': len(list(traced.steps(
          simulation.program.traced.jaxpr.jaxpr, MARK))),
      'steps': int(simulation.local_steps.max()),
      'rounds_a_window': simulation.capacity,
      'temporary_bytes': memory.temp_size_in_bytes,
      'argument_bytes': memory.argument_size_in_bytes,
      'seconds_to_compile': round(time.perf_counter() - begun, 1),
      'seconds_to_build': round(built, 1),
      'versions': {name: metadata.version(name) for name in _VERSIONS
                   if _is_installed(name)}}))


def _is_installed(name: str) -> bool:
  try:
    metadata.version(name)
  except metadata.PackageNotFoundError:
    return False
  return True


if __name__ == '__main__':
  jax.config.update('jax_enable_compilation_cache', False)
  main()
