"""What is compared: each algorithm with the eight settings it may try."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import optax

from fedjax_sim import algorithms
from fedjax_sim.clients.local_training import local_training
from fedjax_sim.core.types import FederatedAlgorithm

_WORK = {'epochs': 2, 'batch_size': 50}
_EIGHT = (0.01, 0.01468, 0.02154, 0.03162, 0.04642, 0.06813, 0.1, 0.1468)
_FOUR = (0.01468, 0.03162, 0.06813, 0.1468)
# A momentum of 0.9 makes steps ten times as long.
_WIDE = (0.004642, 0.01468, 0.04642, 0.1468)
_TWO = (0.03162, 0.06813)
_HEAD = 'dense_2'


class Entry(NamedTuple):
  """An algorithm to be compared.

  Attributes:
    name: unique; 'fedavg' is what the others are compared with.
    family: a panel of the plot.
    grid: numbers, name -> values; all combinations are tried.
    make: `(model, **numbers) -> FederatedAlgorithm`; the numbers are traced.
    by: what a setting is chosen by: 'rounds' to a test accuracy, or the 'own'
      accuracy of clients, where each has a model of its own.
  """

  name: str
  family: str
  grid: Mapping[str, Sequence[float]]
  make: Callable[..., FederatedAlgorithm]
  by: str = 'rounds'


def _with_server(server: Callable[..., optax.GradientTransformation]):
  return lambda model, client_lr, server_lr: algorithms.fedavg(
      model, optax.sgd(client_lr), server(server_lr), **_WORK)


def _server(name: str, rates: Sequence[float], server) -> Entry:
  return Entry(name, 'server optimizers',
               {'client_lr': _TWO, 'server_lr': rates}, _with_server(server))


def _sgd(build, **fixed):
  """A builder that takes an optimizer for its clients."""
  return lambda model, client_lr, **numbers: build(
      model, optax.sgd(client_lr), **numbers, **fixed, **_WORK)


def _rate(build, **fixed):
  """A builder that takes the rate of plain SGD."""
  return lambda model, client_lr, **numbers: build(
      model, client_lr, **numbers, **fixed, **_WORK)


def _momentum(build):
  return lambda model, client_lr, momentum: build(
      model, optax.sgd(client_lr, momentum=momentum), **_WORK)


def _finetuned(model, client_lr, personal_lr):
  return algorithms.finetune(
      algorithms.fedavg(model, optax.sgd(client_lr), **_WORK),
      local_training(model, optax.sgd(personal_lr), **_WORK))


ENTRIES = (
    Entry('fedavg', 'baseline', {'client_lr': _EIGHT}, _sgd(algorithms.fedavg)),
    _server('fedavgm', (0.1, 0.3, 1.0, 3.0), algorithms.fedavgm),
    _server('fedadagrad', (0.01, 0.03, 0.1, 0.3), algorithms.fedadagrad),
    _server('fedyogi', (0.003, 0.01, 0.03, 0.1), algorithms.fedyogi),
    _server('fedadam', (0.003, 0.01, 0.03, 0.1), algorithms.fedadam),
    Entry('fedexp', 'server optimizers', {'client_lr': _EIGHT},
          _sgd(algorithms.fedexp)),
    Entry('fedprox', 'drift',
          {'client_lr': _TWO, 'mu': (0.001, 0.01, 0.1, 1.0)},
          _sgd(algorithms.fedprox)),
    Entry('scaffold', 'drift', {'client_lr': _EIGHT},
          _rate(algorithms.scaffold)),
    Entry('fednova', 'drift', {'client_lr': _EIGHT}, _rate(algorithms.fednova)),
    Entry('feddyn', 'drift',
          {'client_lr': _TWO, 'alpha': (0.003, 0.01, 0.03, 0.1)},
          _sgd(algorithms.feddyn)),
    Entry('mime', 'drift', {'client_lr': _WIDE, 'momentum': (0.0, 0.9)},
          _momentum(algorithms.mime)),
    Entry('mimelite', 'drift', {'client_lr': _WIDE, 'momentum': (0.0, 0.9)},
          _momentum(algorithms.mimelite)),
    Entry('q_fedavg', 'fairness and clusters',
          {'client_lr': _FOUR, 'q': (0.1, 1.0)}, _rate(algorithms.q_fedavg)),
    Entry('ifca', 'fairness and clusters', {'client_lr': _EIGHT},
          _sgd(algorithms.ifca, clusters=3), 'own'),
    Entry('finetune', 'personal', {'client_lr': _TWO, 'personal_lr': _FOUR},
          _finetuned, 'own'),
    Entry('fedper', 'personal', {'client_lr': _EIGHT},
          _sgd(algorithms.fedper, personal=_HEAD), 'own'),
    Entry('fedrep', 'personal', {'client_lr': _EIGHT},
          _sgd(algorithms.fedrep, personal=_HEAD, head_epochs=5), 'own'),
    Entry('ditto', 'personal', {'client_lr': _TWO, 'lam': (0.01, 0.1, 1.0, 10)},
          _sgd(algorithms.ditto), 'own'),
    Entry('apfl', 'personal', {'client_lr': _FOUR, 'alpha': (0.25, 0.75)},
          _sgd(algorithms.apfl), 'own'),
    Entry('pfedme', 'personal',
          {'client_lr': _TWO, 'lam': (1.0, 15.0), 'personal_lr': (0.01, 0.05)},
          _sgd(algorithms.pfedme), 'own'),
    Entry('per_fedavg', 'personal',
          {'client_lr': _FOUR, 'personal_lr': (0.01, 0.05)},
          _sgd(algorithms.per_fedavg), 'own'),
)
