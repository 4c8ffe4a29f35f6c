"""Partitions: which example belongs to which client; one way to deal a file.

A partition is a list of N int64 arrays; array i holds the indices of client
i's examples. Each example is used at most once, and no client is empty unless
that is asked for. Everything here is NumPy, and a function of its arguments
alone: the same seed gives the same partition. (NumPy keeps its streams within
a version; across versions it may change them.)

Letters: N clients, E examples in all, L distinct labels.
"""

from fedjax_sim.data.partition.client_dirichlet import client_dirichlet
from fedjax_sim.data.partition.dealing import Partition
from fedjax_sim.data.partition.dirichlet import dirichlet
from fedjax_sim.data.partition.iid import iid
from fedjax_sim.data.partition.indices import check, sizes_of
from fedjax_sim.data.partition.label_sets import label_sets
from fedjax_sim.data.partition.natural import natural
from fedjax_sim.data.partition.quantity import quantity
from fedjax_sim.data.partition.shards import shards
from fedjax_sim.data.partition.split import split
from fedjax_sim.data.partition.summary import Summary, label_counts, summary

__all__ = [
    'Partition',
    'Summary',
    'check',
    'client_dirichlet',
    'dirichlet',
    'iid',
    'label_counts',
    'label_sets',
    'natural',
    'quantity',
    'shards',
    'sizes_of',
    'split',
    'summary',
]
