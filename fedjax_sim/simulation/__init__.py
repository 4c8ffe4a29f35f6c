"""Rounds: planned on the host, computed on the device."""

from fedjax_sim.simulation.engine import Engine, SimulationState, build_engine
from fedjax_sim.simulation.plan import Plan, plan_rounds

__all__ = ['Engine', 'Plan', 'SimulationState', 'build_engine', 'plan_rounds']
