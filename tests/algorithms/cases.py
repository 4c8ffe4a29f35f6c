"""Every algorithm of the package, small, for the suite that runs them all."""

from collections.abc import Callable

import optax

from fedjax_sim import algorithms
from fedjax_sim.core.types import FederatedAlgorithm

# name -> (model, client learning rate, which may be traced) -> algorithm.
Case = Callable[..., FederatedAlgorithm]
CASES: dict[str, Case] = {
    'fedavg': lambda model, rate=0.1: algorithms.fedavg(
        model, optax.sgd(rate), epochs=2, batch_size=4),
    'feddyn': lambda model, rate=0.1: algorithms.feddyn(
        model, optax.sgd(rate), alpha=0.5, epochs=2, batch_size=4),
    'fedexp': lambda model, rate=0.1: algorithms.fedexp(
        model, optax.sgd(rate), epochs=2, batch_size=4),
    'fednova': lambda model, rate=0.1: algorithms.fednova(
        model, rate, momentum=0.5, proximal=0.1, epochs=2, batch_size=4),
    'fedprox': lambda model, rate=0.1: algorithms.fedprox(
        model, optax.sgd(rate), algorithms.fedadam(0.1), mu=0.1, batch_size=4),
    'fedsgd': lambda model, rate=0.1: algorithms.fedsgd(model, rate),
    'scaffold': lambda model, rate=0.1: algorithms.scaffold(
        model, rate, epochs=2, batch_size=4),
    'scaffold, option 1': lambda model, rate=0.1: algorithms.scaffold(
        model, rate, option=1, weighting='examples', batch_size=4),
}
