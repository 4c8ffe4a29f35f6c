"""Rounds: planned on the host, computed on the device."""

from fedjax_sim.simulation.engine import Engine, build_engine
from fedjax_sim.simulation.plan import Plan, plan_rounds
from fedjax_sim.simulation.rounds import SimulationState

__all__ = ['Engine', 'Plan', 'SimulationState', 'build_engine', 'plan_rounds']
