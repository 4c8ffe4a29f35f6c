"""Rounds as a program that is compiled once, when it is first needed."""

import dataclasses
import functools
from collections.abc import Callable

import jax

from fedjax_sim.core import compilation, reuse
from fedjax_sim.simulation import graphs
from fedjax_sim.simulation.placement import device_memory, sharding


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Program:
  """A program of rounds.

  Attributes:
    trace: traces it.
    placement: the devices, of all processes together.
    lanes: W, to be named where the memory is too small.
    idle: its arguments for no round at all, on the devices.
  """

  trace: Callable[[], jax.stages.Traced]
  placement: sharding.Placement
  lanes: int
  idle: Callable[[], tuple]

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
    program, _ = self._compiled
    device_memory.check(program, self.placement, self.lanes)
    return program

  @property
  def graphs(self) -> str | None:
    """Which of `compilation.GRAPHS` a GPU runs; None elsewhere."""
    return self._compiled[1] if self.placement.platform == 'gpu' else None

  @functools.cached_property
  def memory(self) -> device_memory.Memory | None:
    """Bytes that it takes; None where the backend doesn't tell."""
    return device_memory.needed(self._compiled[0], self.placement)

  @functools.cached_property
  def _compiled(self) -> tuple[jax.stages.Compiled, str | None]:
    platform = self.placement.platform
    compile_with = lambda kind: _compiled(
        self.traced, compilation.options(platform, kind))
    if platform != 'gpu':
      return compile_with(''), None
    if not self.placement.is_here:  # It is compiled for another machine.
      return compile_with(compilation.graphs()), compilation.graphs()
    return graphs.compiled(compile_with, self._run_idle)

  def _run_idle(self, program: jax.stages.Compiled) -> None:
    if device_memory.fits(
        device_memory.needed(program, self.placement),
        device_memory.available(jax.local_devices()[0])):
      jax.block_until_ready(program(*self.idle()))


@reuse.reused(size=8)
def _compiled(traced: jax.stages.Traced, options) -> jax.stages.Compiled:
  return traced.lower().compile(compiler_options=options)
