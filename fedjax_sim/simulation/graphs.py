"""CUDA graphs: tried at once, and done with less where a GPU refuses them.

With loops in its graphs a GPU runs a window of rounds by itself
(`core/compilation.py`). That asks much of the driver. So a program is run once
before anything depends on it, for no round at all: this makes the graph and
starts it, on a state that is thrown away.
"""

from collections.abc import Callable

import jax

from fedjax_sim.core import compilation, warning
from fedjax_sim.simulation.placement import sharding

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
  program, why = _tried(compile_with, run_idle)
  # Processes that work together must have the same program.
  (refused,) = sharding.agree(bool(why))
  if not refused:
    return program, 'loops'
  _refused.append(why)
  warning.warn(
      'this GPU, or its driver, does not run loops in CUDA graphs, so the host '
      f'drives the loop over local steps, which is slower: {why:.200}. With '
      f'{compilation.GRAPHS_VARIABLE}=steps it is not tried.')
  return compile_with('steps'), 'steps'


def _tried(compile_with, run_idle) -> tuple[jax.stages.Compiled | None, str]:
  """The program with loops in graphs, and why it is refused, '' if not.

  One that lacks memory has not been refused.
  """
  program = None
  try:
    program = compile_with('loops')
    run_idle(program)
  except jax.errors.JaxRuntimeError as error:
    if _NO_MEMORY not in str(error):
      return None, ' '.join(str(error).split()) or 'no reason is given'
    if program is None:
      raise
  return program, ''
