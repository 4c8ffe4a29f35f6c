"""Data: sets, partitions, federations, cohorts. NumPy, on the host."""

from fedjax_sim.data import partition, sampling
from fedjax_sim.data.federated import (
    FederatedData,
    federate,
    from_clients,
    single,
)
from fedjax_sim.data.mapped import open_mapped, write_mapped
from fedjax_sim.data.sets.load import Dataset, load
from fedjax_sim.data.sqlite import iterate_sqlite, read_sqlite, write_sqlite

__all__ = [
    'Dataset',
    'FederatedData',
    'federate',
    'from_clients',
    'iterate_sqlite',
    'load',
    'open_mapped',
    'partition',
    'read_sqlite',
    'sampling',
    'single',
    'write_mapped',
    'write_sqlite',
]
