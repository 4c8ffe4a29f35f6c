"""CUDA graphs: tried at once, and done with less where a GPU refuses them.

With loops in its graphs a GPU runs a window of rounds by itself
(`core/compilation.py`). That asks much of the driver. So a program is run once
before anything depends on it, for no round at all: this makes the graph and
starts it, on a state that is thrown away.
"""

import warnings
from collections.abc import Callable

import jax

from fedjax_sim.core import compilation

_NO_MEMORY = 'RESOURCE_EXHAUSTED'

# Whether loops in graphs were refused, so that they are not tried again.
_refused: list[str] = []


def compiled(
    compile_with: Callable[[str], jax.stages.Compiled],
    run_idle: Callable[[jax.stages.Compiled], None],
) -> tuple[jax.stages.Compiled, str]:
  """A program for a GPU that has been run.

  Args:
    compile_with: one of `compilation.GRAPHS` -> the program.
    run_idle: runs a program for no round, and waits.

  Returns:
    (the program, what of it is in CUDA graphs).

  Raises:
    JaxRuntimeError: it can't be compiled in any way.
  """
  wanted = compilation.graphs()
  if wanted != 'loops':
    return compile_with(wanted), wanted
  if _refused:
    return compile_with('steps'), 'steps'
  try:
    program = compile_with('loops')
    _run(run_idle, program)
  except jax.errors.JaxRuntimeError as error:
    if _NO_MEMORY in str(error):
      raise
    _refused.append(str(error))
    warnings.warn(
        'this GPU, or its driver, does not run loops in CUDA graphs, so the '
        'host drives the loop over local steps, which is slower: '
        f'{" ".join(str(error).split()):.200}. With '
        f'{compilation.GRAPHS_VARIABLE}=steps it is not tried.', stacklevel=2)
    return compile_with('steps'), 'steps'
  return program, 'loops'


def _run(run_idle, program) -> None:
  """Runs a program; one that lacks memory has not been refused."""
  try:
    run_idle(program)
  except jax.errors.JaxRuntimeError as error:
    if _NO_MEMORY not in str(error):
      raise
