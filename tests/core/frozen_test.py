"""Frozen weights are as if they were constants of the model."""

import jax
import numpy as np
import optax
import pytest
from jax import numpy as jnp

import fedjax_sim
from fedjax_sim import aggregation, algorithms
from fedjax_sim.core import trees
from fedjax_sim.simulation import evaluation, traffic
from tests import toys

BASE = jnp.asarray(np.random.default_rng(1).normal(size=(4, 3)), jnp.float32)
PLAIN = toys.softmax_model()
DATA = toys.softmax_data([5, 1, 11, 8])


def constant():
  """Logistic regression whose weights are added to `BASE`."""
  def apply(params, model_state, inputs, **options):
    return PLAIN.apply(
        params | {'w': params['w'] + BASE}, model_state, inputs, **options)
  return PLAIN._replace(apply=apply)


def with_frozen():
  """The same, with `BASE` in `Variables.frozen`."""
  def apply(params, model_state, inputs, *, frozen, **options):
    return PLAIN.apply(params | {'w': params['w'] + frozen['base']},
                       model_state, inputs, **options)
  return PLAIN._replace(
      apply=apply, init=lambda key, x: PLAIN.init(key, x)._replace(
          frozen={'base': BASE}))


SGD = optax.sgd(0.1)
ALGORITHMS = {
    'fedavg': lambda model: algorithms.fedavg(model, SGD, batch_size=4),
    'fedexp': lambda model: algorithms.fedexp(model, SGD, batch_size=4),
    'ditto': lambda model: algorithms.ditto(
        model, SGD, lam=0.5, batch_size=4),
    'apfl': lambda model: algorithms.apfl(model, SGD, batch_size=4),
    'fedrep': lambda model: algorithms.fedrep(
        model, SGD, personal='/b$', batch_size=4),
    'fedsgd': lambda model: algorithms.fedsgd(model, 0.1),
    'ifca': lambda model: algorithms.ifca(
        model, SGD, clusters=2, batch_size=4),
    'mime': lambda model: algorithms.mime(model, SGD, batch_size=4),
    'scaffold': lambda model: algorithms.scaffold(
        model, 0.1, batch_size=4, aggregator=aggregation.aggregator(
            aggregation.downlink(aggregation.clip(1e6)))),
}


@pytest.mark.parametrize('name, lanes', [
    (name, 2) if name in ('fedavg', 'scaffold', 'ifca')
    else pytest.param(name, 1, marks=pytest.mark.slow) for name in ALGORITHMS])
def test_they_are_constants_and_in_no_state(name, lanes):
  results = []
  for model in (constant(), with_frozen()):
    algorithm = ALGORITHMS[name](model)
    result = fedjax_sim.simulate(
        model, algorithm, DATA, rounds=3, client_fraction=0.75, devices=1,
        lanes=lanes, test=DATA.examples)
    clients = evaluation.evaluate_clients(
        model, algorithm, result.state, DATA, DATA, key=jax.random.key(0))
    results.append((result, clients.values))
  (want, before), (got, after) = results
  np.testing.assert_array_equal(got.variables.frozen['base'], BASE)
  assert trees.size(got.state.clients) == trees.size(want.state.clients)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(
      a, b, rtol=1e-5, atol=1e-6), got.variables.params, want.variables.params)
  for a, b in zip(got.records, want.records, strict=True):
    assert a['test/loss'] == pytest.approx(b['test/loss'], rel=1e-5)
  np.testing.assert_allclose(after['loss'], before['loss'], rtol=1e-5)


def test_they_are_neither_sent_nor_counted():
  moved = [traffic.per_client(
      ALGORITHMS['scaffold'](model), DATA.examples,
      model.init(jax.random.key(0), DATA.examples['x'][:1]))
           for model in (constant(), with_frozen())]
  assert moved[0] == moved[1]


def test_members_of_a_sweep_share_them():
  sweeps = [fedjax_sim.sweep(
      model, lambda rate, model=model: algorithms.fedavg(
          model, optax.sgd(rate), batch_size=4), DATA, rounds=2, seeds=[0, 3],
      learning_rates=[0.1], client_fraction=1.0, devices=1, lanes=1)
            for model in (constant(), with_frozen())]
  for member, want in sweeps[0].items():
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5),
                 sweeps[1][member].variables.params, want.variables.params)
