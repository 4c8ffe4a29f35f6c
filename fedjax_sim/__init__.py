"""Federated learning simulated as compiled JAX programs.

Importing it starts no JAX backend and reads no data.
"""

from fedjax_sim import (
    aggregation,
    algorithms,
    data,
    evaluation,
    interpolation,
    models,
)
from fedjax_sim.devices import use_all_cores
from fedjax_sim.simulator import DivergenceError, Result, simulate

__all__ = [
    'DivergenceError',
    'Result',
    'aggregation',
    'algorithms',
    'data',
    'evaluation',
    'interpolation',
    'models',
    'simulate',
    'use_all_cores',
]
