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
from fedjax_sim.clients.for_each import for_each_client
from fedjax_sim.devices import use_all_cores
from fedjax_sim.rows import DivergenceError
from fedjax_sim.simulator import Result, simulate
from fedjax_sim.sweeps import sweep

__all__ = [
    'DivergenceError',
    'Result',
    'aggregation',
    'algorithms',
    'data',
    'evaluation',
    'for_each_client',
    'interpolation',
    'models',
    'simulate',
    'sweep',
    'use_all_cores',
]
