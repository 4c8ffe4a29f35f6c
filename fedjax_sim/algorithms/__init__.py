"""Federated algorithms, one a file; none knows of lanes, blocks or devices."""

from fedjax_sim.algorithms.centralized import centralized_sgd
from fedjax_sim.algorithms.fedavg import fedavg, from_client_update
from fedjax_sim.algorithms.feddyn import feddyn
from fedjax_sim.algorithms.fedexp import fedexp
from fedjax_sim.algorithms.fednova import fednova
from fedjax_sim.algorithms.fedprox import fedprox
from fedjax_sim.algorithms.fedsgd import fedsgd
from fedjax_sim.algorithms.from_steps import from_steps
from fedjax_sim.algorithms.mime import mime, mimelite
from fedjax_sim.algorithms.scaffold import scaffold
from fedjax_sim.algorithms.server_optimizers import (
    fedadagrad,
    fedadam,
    fedavgm,
    fedyogi,
)

__all__ = [
    'centralized_sgd',
    'fedadagrad',
    'fedadam',
    'fedavg',
    'fedavgm',
    'feddyn',
    'fedexp',
    'fednova',
    'fedprox',
    'fedsgd',
    'fedyogi',
    'from_client_update',
    'from_steps',
    'mime',
    'mimelite',
    'scaffold',
]
