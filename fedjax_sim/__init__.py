"""Federated learning simulated as compiled JAX programs.

Importing it starts no JAX backend and reads no data.
"""

from fedjax_sim import (
    aggregation,
    algorithms,
    data,
    fedjax,
    models,
    privacy,
    systems,
)
from fedjax_sim.clients import restrictions, topologies
from fedjax_sim.core.cpu_devices import use_all_cores
from fedjax_sim.experiment import callbacks
from fedjax_sim.experiment.result import Loaded, Result, load
from fedjax_sim.experiment.simulate import rounds, simulate
from fedjax_sim.experiment.simulate_many import sweep
from fedjax_sim.fedjax import for_each_client
from fedjax_sim.simulation import evaluation, interpolation
from fedjax_sim.simulation.records import DivergenceError

__version__ = '0.1.0'

__all__ = [
    'DivergenceError',
    'Loaded',
    'Result',
    'aggregation',
    'algorithms',
    'callbacks',
    'data',
    'evaluation',
    'fedjax',
    'for_each_client',
    'interpolation',
    'load',
    'models',
    'privacy',
    'restrictions',
    'rounds',
    'simulate',
    'sweep',
    'systems',
    'topologies',
    'use_all_cores',
]
