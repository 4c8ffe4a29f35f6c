"""Runs side by side, as the members of a sweep, and who goes on when."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax

from benchmarks.communication import curves as curves_lib
from benchmarks.communication.curves import Curve
from configs import default
from fedjax_sim.experiment import build_sweep, loop
from fedjax_sim.simulation.drive import Progress
from fedjax_sim.simulation.sweep_runs import SweepRuns

Fields = Mapping[str, Any]
# (curves so far, members that go on) -> changes the latter.
Judge = Callable[[Sequence[Curve], set[int]], None]


def run(
    fields: Fields, settings: Sequence[Fields], *, rounds: int, every: int,
    judge: Judge, pause: int = 0,
) -> tuple[list[Curve], float]:
  """Runs that differ in seeds and rates.

  Args:
    fields: of the config, other than the defaults.
    settings: of each run: its seed, and rates.
    rounds: the most.
    every: rounds between two evaluations.
    judge: says who goes on, after each dispatch.
    pause: a round after which a dispatch ends.

  Returns:
    (their curves, seconds that it took).
  """
  begun = time.monotonic()
  config = default.get_config().unlock()
  config.update({'rounds': rounds, **fields})
  sweep, members = build_sweep.build_sweep(config, settings)
  runs = SweepRuns(sweep=sweep, members=members)
  records: list[list] = [[] for _ in settings]
  active = set(range(len(settings)))

  def look(progress: Progress) -> None:
    for i, new in progress.records.items():
      records[i] += new
    judge([curves_lib.curve(own) for own in records], active)

  loop.train(
      runs, sweep.init(members),
      loop.Cadence(rounds, lambda r: (r + 1) % every == 0,
                   pause=lambda r: r + 1 == pause),
      files={}, checkpoints=loop.NoCheckpoints(), active=active,
      traffic=runs.bytes_per_client(), on_progress=look)
  jax.clear_caches()
  return [curves_lib.curve(own) for own in records], time.monotonic() - begun


def until(target: float) -> Judge:
  """Everybody goes on to a target accuracy."""
  def judge(curves, active):
    active.difference_update([
        i for i in active if curves_lib.best(curves[i]) >= target])
  return judge


def halving(cut: int) -> Judge:
  """Half of the members, and one more of an odd number, go on after a round.

  They are those with the best accuracies up to then: one step of successive
  halving (Jamieson and Talwalkar 2016).
  """
  def judge(curves, active):
    done = [(one['round'] or [0])[-1] for one in curves]
    if min((done[i] for i in active), default=0) == cut:
      ranked = sorted(range(len(curves)), key=lambda i: -curves_lib.best(
          curves[i]))
      active.intersection_update(ranked[:(len(curves) + 1) // 2])
  return judge
