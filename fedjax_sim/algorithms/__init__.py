"""Federated algorithms, one a file; none knows of lanes, blocks or devices."""

from fedjax_sim.algorithms.agnostic_fedavg import agnostic_fedavg
from fedjax_sim.algorithms.apfl import apfl
from fedjax_sim.algorithms.centralized import centralized_sgd
from fedjax_sim.algorithms.ditto import ditto
from fedjax_sim.algorithms.dpsgd import dpsgd
from fedjax_sim.algorithms.fedasync import fedasync
from fedjax_sim.algorithms.fedavg import fedavg, from_client_update
from fedjax_sim.algorithms.fedbn import fedbn
from fedjax_sim.algorithms.fedbuff import fedbuff
from fedjax_sim.algorithms.feddyn import feddyn
from fedjax_sim.algorithms.fedexp import fedexp
from fedjax_sim.algorithms.fednova import fednova
from fedjax_sim.algorithms.fedper import fedper
from fedjax_sim.algorithms.fedprox import fedprox
from fedjax_sim.algorithms.fedrep import fedrep
from fedjax_sim.algorithms.fedsgd import fedsgd
from fedjax_sim.algorithms.finetune import finetune
from fedjax_sim.algorithms.hierfavg import hierfavg
from fedjax_sim.algorithms.ifca import ifca
from fedjax_sim.algorithms.mime import mime, mimelite
from fedjax_sim.algorithms.per_fedavg import per_fedavg
from fedjax_sim.algorithms.pfedme import pfedme
from fedjax_sim.algorithms.q_fedavg import q_fedavg
from fedjax_sim.algorithms.scaffold import scaffold
from fedjax_sim.algorithms.server_optimizers import (
    fedadagrad,
    fedadam,
    fedavgm,
    fedyogi,
)
from fedjax_sim.core import argument_kinds

__all__ = [
    'agnostic_fedavg',
    'apfl',
    'centralized_sgd',
    'ditto',
    'dpsgd',
    'fedadagrad',
    'fedadam',
    'fedasync',
    'fedavg',
    'fedavgm',
    'fedbn',
    'fedbuff',
    'feddyn',
    'fedexp',
    'fednova',
    'fedper',
    'fedprox',
    'fedrep',
    'fedsgd',
    'fedyogi',
    'finetune',
    'from_client_update',
    'hierfavg',
    'ifca',
    'mime',
    'mimelite',
    'per_fedavg',
    'pfedme',
    'q_fedavg',
    'scaffold',
]

argument_kinds.check_public(globals())
