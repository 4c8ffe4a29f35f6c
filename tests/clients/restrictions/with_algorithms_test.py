"""Every algorithm with local training takes a restriction, or says why not."""

import inspect

import jax
import numpy as np
import optax
import pytest

from fedjax_sim import algorithms, models, restrictions
from fedjax_sim.core.types import ClientData
from fedjax_sim.simulation import traffic

EXAMPLES = {'x': np.zeros((6, 8), np.float32), 'y': np.zeros(6, np.int32)}
SGD = optax.sgd(0.1)
BUILDERS = {
    'agnostic_fedavg': lambda model, **kw: algorithms.agnostic_fedavg(
        model, SGD, num_domains=3, domain_lr=0.5,
        domain=lambda examples: examples['y'], **kw),
    'ditto': lambda model, **kw: algorithms.ditto(model, SGD, lam=0.5, **kw),
    'fedavg': lambda model, **kw: algorithms.fedavg(model, SGD, **kw),
    'fedasync': lambda model, **kw: algorithms.fedasync(model, SGD, **kw),
    'fedbuff': lambda model, **kw: algorithms.fedbuff(model, SGD, **kw),
    'fedexp': lambda model, **kw: algorithms.fedexp(model, SGD, **kw),
    'fednova': lambda model, **kw: algorithms.fednova(model, 0.1, **kw),
    'fedprox': lambda model, **kw: algorithms.fedprox(
        model, SGD, mu=0.1, **kw),
    'hierfavg': lambda model, **kw: algorithms.hierfavg(
        model, SGD, edges=2, kappa2=2, **kw),
    'ifca': lambda model, **kw: algorithms.ifca(
        model, SGD, clusters=2, **kw),
    'per_fedavg': lambda model, **kw: algorithms.per_fedavg(
        model, SGD, personal_lr=0.1, **kw),
    'pfedme': lambda model, **kw: algorithms.pfedme(
        model, SGD, lam=2.0, personal_lr=0.1, personal_steps=2, **kw),
    'q_fedavg': lambda model, **kw: algorithms.q_fedavg(
        model, 0.1, q=1.0, **kw),
}
REFUSED = {
    'apfl': lambda model, **kw: algorithms.apfl(model, SGD, **kw),
    'fedbn': lambda model, **kw: algorithms.fedbn(model, SGD, **kw),
    'feddyn': lambda model, **kw: algorithms.feddyn(
        model, SGD, alpha=0.5, **kw),
    'fedper': lambda model, **kw: algorithms.fedper(
        model, SGD, personal='dense_1', **kw),
    'fedrep': lambda model, **kw: algorithms.fedrep(
        model, SGD, personal='dense_1', **kw),
    'mime': lambda model, **kw: algorithms.mime(model, SGD, **kw),
    'mimelite': lambda model, **kw: algorithms.mimelite(model, SGD, **kw),
    'scaffold': lambda model, **kw: algorithms.scaffold(model, 0.1, **kw),
}
ARRAYS = [restrictions.low_rank(2), restrictions.random_mask(0.5)]
DROPOUT = restrictions.federated_dropout(0.5)


def small():
  """Dense layers of 8, 6 and 3 units."""
  return models.dense._dense(
      (6,), 3, models.cross_entropy, jax.nn.initializers.glorot_uniform())


def counted(build, restrict):
  model = small()
  variables = jax.eval_shape(model.init, jax.random.key(0), EXAMPLES['x'][:1])
  algorithm = build(model, restrict=restrict)
  return traffic.per_client(algorithm, EXAMPLES, variables)


def test_all_algorithms_are_here():
  names = {name for name in algorithms.__all__ if 'training' in (
      inspect.signature(getattr(algorithms, name)).parameters)}
  assert names == BUILDERS.keys() | REFUSED.keys()


@pytest.mark.parametrize('name', sorted(BUILDERS))
def test_less_is_sent(name):
  """Of kernels [8, 6] and [6, 3]: 4 bytes for each number less, and a seed."""
  plain = counted(BUILDERS[name], None)
  for restrict, trained in zip(ARRAYS, (2 * 6 + 2 * 3, 24 + 9), strict=True):
    got = counted(BUILDERS[name], restrict)
    assert got.down == plain.down
    assert plain.up - got.up == 4 * (48 + 18 - trained) - 4


@pytest.mark.parametrize('name', sorted(BUILDERS))
def test_a_submodel_goes_both_ways(name):
  """3 of 6 hidden units are left of kernels and a bias."""
  build = BUILDERS[name]
  if name == 'ditto':
    with pytest.raises(ValueError, match='ditto, whose clients keep a state'):
      counted(build, DROPOUT)
    return
  if name in ('ifca', 'hierfavg', 'fedbuff'):
    with pytest.raises(ValueError, match='whose messages are of one model|'
                                         'must be sent one message|'
                                         'got .* discounted by staleness'):
      counted(build, DROPOUT)
    return
  plain, got = counted(build, None), counted(build, DROPOUT)
  fewer = 4 * (48 + 6 + 18) // 2
  assert plain.up - got.up == fewer and plain.down - got.down == fewer - 4


def test_dittos_personal_models_are_trained_whole():
  model = small()
  variables = model.init(jax.random.key(0), EXAMPLES['x'][:1])
  data = ClientData(
      {'x': jax.random.normal(jax.random.key(1), (6, 8)),
       'y': np.arange(6) % 3}, 0, np.int32(6), 6, True)

  def client(restrict):
    algorithm = BUILDERS['ditto'](model, restrict=restrict)
    key = jax.random.key(2)
    sent = algorithm.broadcast(algorithm.init(variables, key, 2))
    return jax.jit(lambda sent: algorithm.client(
        sent, algorithm.client_init(variables), data, key))(sent)

  plain, got = client(None), client(restrictions.random_mask(0.2))
  jax.tree.map(np.testing.assert_array_equal, plain.state, got.state)
  changed = [int((x.message.update.params['dense_0']['kernel'] != 0).sum())
             for x in (plain, got)]
  assert changed[1] <= 10 < changed[0]


@pytest.mark.parametrize('name', sorted(REFUSED))
def test_others_say_why(name):
  for restrict in (*ARRAYS, DROPOUT):
    with pytest.raises(ValueError, match=f'restrict .* to {name}: .* of '):
      REFUSED[name](small(), restrict=restrict)
