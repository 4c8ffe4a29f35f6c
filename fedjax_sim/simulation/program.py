"""Rounds as a program that is compiled once, when it is first needed."""

import dataclasses
import functools
from collections.abc import Callable

import jax

from fedjax_sim.core import compilation, reuse
from fedjax_sim.simulation.placement import device_memory


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Program:
  """A program of rounds.

  Attributes:
    trace: traces it.
    devices: D, of all processes together.
    lanes: W, to be named where the memory is too small.
  """

  trace: Callable[[], jax.stages.Traced]
  devices: int
  lanes: int

  @functools.cached_property
  def traced(self) -> jax.stages.Traced:
    """The program before it is lowered."""
    return self.trace()

  @functools.cached_property
  def compiled(self) -> jax.stages.Compiled:
    """The compiled program.

    Raises:
      ValueError: it doesn't fit into the device's memory.
    """
    program = _compiled(self.traced, compilation.options())
    device_memory.check(program, self.devices, self.lanes)
    return program


@reuse.reused(size=8)
def _compiled(traced: jax.stages.Traced, options) -> jax.stages.Compiled:
  return traced.lower().compile(compiler_options=options)
