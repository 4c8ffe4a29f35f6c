"""Data: sources, partitions, federations, cohorts. NumPy, on the host."""

from fedjax_sim.data import partition, sampling
from fedjax_sim.data.federated import (
    FederatedData,
    federate,
    from_clients,
    single,
)
from fedjax_sim.data.sources import Dataset, load

__all__ = [
    'Dataset',
    'FederatedData',
    'federate',
    'from_clients',
    'load',
    'partition',
    'sampling',
    'single',
]
