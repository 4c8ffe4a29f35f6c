"""Data: sets, partitions, federations, cohorts. NumPy, on the host."""

from fedjax_sim.data import partition, sampling
from fedjax_sim.data.federated import (
    FederatedData,
    federate,
    from_clients,
    single,
)
from fedjax_sim.data.indexed import from_dataset
from fedjax_sim.data.leaf import read_leaf
from fedjax_sim.data.mapped import open_mapped, write_mapped
from fedjax_sim.data.oort import oort
from fedjax_sim.data.poisson import poisson
from fedjax_sim.data.power_of_choice import power_of_choice
from fedjax_sim.data.sets.load import Dataset, load
from fedjax_sim.data.sets.tfds import tfds
from fedjax_sim.data.sqlite import iterate_sqlite, read_sqlite, write_sqlite
from fedjax_sim.data.tables import from_dataframe

__all__ = [
    'Dataset',
    'FederatedData',
    'federate',
    'from_clients',
    'from_dataframe',
    'from_dataset',
    'iterate_sqlite',
    'load',
    'oort',
    'open_mapped',
    'partition',
    'poisson',
    'power_of_choice',
    'read_leaf',
    'read_sqlite',
    'sampling',
    'single',
    'tfds',
    'write_mapped',
    'write_sqlite',
]
