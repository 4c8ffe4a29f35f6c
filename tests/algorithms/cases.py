"""Every algorithm of the package, small, for the suite that runs them all."""

from collections.abc import Callable, Iterable

import jax
import optax
import pytest
from jax import numpy as jnp

from fedjax_sim import algorithms, fedjax, restrictions, topologies
from fedjax_sim.core.types import FederatedAlgorithm
from tests.algorithms import tutorial


def sgd_in_steps(model, rate=0.1, batch_size=4, **options):
  """FedAvg in FedJAX's three client functions."""
  def step(params, batch):
    def loss(params):
      outputs, _ = model.apply(
          params, {}, batch['x'], key=None, train=True, mask=None)
      return jnp.mean(model.loss(outputs, batch))
    return jax.tree.map(
        lambda p, g: p - rate * g, params, jax.grad(loss)(params))

  return fedjax.from_steps(
      lambda shared, key: shared, step,
      lambda shared, params: jax.tree.map(jnp.subtract, params, shared),
      server_update=lambda params, opt_state, mean: (
          jax.tree.map(jnp.add, params, mean), opt_state),
      batch_size=batch_size, **options)


def in_rounds(algorithm: FederatedAlgorithm) -> FederatedAlgorithm:
  """An asynchronous algorithm where nobody is late, which it else refuses."""
  return algorithm._replace(asynchronous=None)


# name -> (model, client learning rate, which may be traced) -> algorithm.
Case = Callable[..., FederatedAlgorithm]
CASES: dict[str, Case] = {
    'agnostic_fedavg': lambda model, rate=0.1: algorithms.agnostic_fedavg(
        model, optax.sgd(rate), num_domains=3, domain_lr=0.5,
        domain=lambda examples: examples['y'], batch_size=4),
    'apfl': lambda model, rate=0.1: algorithms.apfl(
        model, optax.sgd(rate, momentum=0.5), batch_size=4),
    'apfl, adaptive': lambda model, rate=0.1: algorithms.apfl(
        model, optax.sgd(rate), adaptive=True, epochs=2, batch_size=4),
    'ditto': lambda model, rate=0.1: algorithms.ditto(
        model, optax.sgd(rate), lam=0.5, batch_size=4),
    'dpsgd': lambda model, rate=0.1: algorithms.dpsgd(
        model, optax.sgd(rate), graph=topologies.ring(), batch_size=4),
    'fedasync': lambda model, rate=0.1: in_rounds(algorithms.fedasync(
        model, optax.sgd(rate), alpha=0.5, rho=0.1, batch_size=4)),
    'fedavg': lambda model, rate=0.1: algorithms.fedavg(
        model, optax.sgd(rate), epochs=2, batch_size=4),
    'fedavg, restricted': lambda model, rate=0.1: algorithms.fedavg(
        model, optax.sgd(rate, momentum=0.5), epochs=2, batch_size=4,
        restrict=restrictions.random_mask(0.5)),
    'fedbuff': lambda model, rate=0.1: in_rounds(algorithms.fedbuff(
        model, optax.sgd(rate), epochs=2, batch_size=4)),
    'feddyn': lambda model, rate=0.1: algorithms.feddyn(
        model, optax.sgd(rate), alpha=0.5, epochs=2, batch_size=4),
    'fedexp': lambda model, rate=0.1: algorithms.fedexp(
        model, optax.sgd(rate), epochs=2, batch_size=4),
    'fednova': lambda model, rate=0.1: algorithms.fednova(
        model, rate, momentum=0.5, proximal=0.1, epochs=2, batch_size=4),
    'fedper': lambda model, rate=0.1: algorithms.fedper(
        model, optax.sgd(rate), algorithms.fedadam(0.1), personal='/b$',
        batch_size=4),
    'fedprox': lambda model, rate=0.1: algorithms.fedprox(
        model, optax.sgd(rate), algorithms.fedadam(0.1), mu=0.1, batch_size=4),
    'fedrep': lambda model, rate=0.1: algorithms.fedrep(
        model, optax.sgd(rate), personal='/b$', head_epochs=2, batch_size=4),
    'fedsgd': lambda model, rate=0.1: algorithms.fedsgd(model, rate),
    'from_steps': sgd_in_steps,
    'hierfavg': lambda model, rate=0.1: algorithms.hierfavg(
        model, optax.sgd(rate), algorithms.fedavgm(0.9), edges=2, kappa2=2,
        batch_size=4),
    'ifca': lambda model, rate=0.1: algorithms.ifca(
        model, optax.sgd(rate), clusters=2, batch_size=4),
    'lasting_momentum of docs/own_algorithm.md':
        lambda model, rate=0.1: tutorial.lasting_momentum(
            model, optax.sgd(rate, momentum=0.5), batch_size=4),
    'mime': lambda model, rate=0.1: algorithms.mime(
        model, optax.sgd(rate, momentum=0.5), epochs=2, batch_size=4),
    'mimelite': lambda model, rate=0.1: algorithms.mimelite(
        model, optax.adam(rate), epochs=2, batch_size=4),
    'per_fedavg': lambda model, rate=0.1: algorithms.per_fedavg(
        model, optax.sgd(rate), personal_lr=rate, batch_size=4),
    'pfedme': lambda model, rate=0.1: algorithms.pfedme(
        model, optax.sgd(rate), lam=2.0, personal_lr=rate, personal_steps=3,
        batch_size=4),
    'q_fedavg': lambda model, rate=0.1: algorithms.q_fedavg(
        model, rate, q=1.0, batch_size=4),
    'scaffold': lambda model, rate=0.1: algorithms.scaffold(
        model, rate, epochs=2, batch_size=4),
    'scaffold, option 1': lambda model, rate=0.1: algorithms.scaffold(
        model, rate, option=1, weighting='examples', batch_size=4),
}

# The same algorithms with other arguments, one of docs/, and one in which no
# message goes to a server.
_WITHOUT = {'apfl, adaptive', 'fedavg, restricted', 'scaffold, option 1',
            'lasting_momentum of docs/own_algorithm.md', 'dpsgd'}
AGGREGATED = sorted(set(CASES) - _WITHOUT)


def with_aggregator(name, model, aggregator):
  """The case, built with an aggregator instead of none."""
  module = algorithms if hasattr(algorithms, name) else fedjax
  original = getattr(module, name)
  taken = []

  def build(*args, **kwargs):
    taken.append(name)
    return original(*args, **kwargs, aggregator=aggregator)

  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(module, name, build)
    algorithm = CASES[name](model)
  assert taken
  return algorithm


# Different in kind: plain, client state, stacked models, models in parts.
_ALWAYS = {'fedavg', 'scaffold', 'ifca', 'fedrep'}


def some_always(names: Iterable[str]) -> list:
  """The names for a test that compiles a lot: most of them are slow tests."""
  return [name if name in _ALWAYS else pytest.param(
      name, marks=pytest.mark.slow) for name in sorted(names)]
