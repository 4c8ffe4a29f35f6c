import jax
import numpy as np
import optax
import pytest

from fedjax_sim import algorithms, simulate
from fedjax_sim.data.federated import federate
from tests import toys

MODEL = toys.quadratic_model()
# Client 0 has domain 0 only, client 1 both, client 2 domain 1 only.
DOMAINS = np.array([0, 0, 0, 0, 0, 0, 1, 1], np.int32)
SIZES = [4, 3, 1]
X = np.where(DOMAINS[:, None] == 0, [[0.0, 1.0]], [[3.0, 1.0]]).astype(
    np.float32)
DATA = federate({'x': X, 'y': np.zeros(8, np.int32), 'domain': DOMAINS},
                toys.partition_of(SIZES))
EVERYONE = range(3)


def build(domain_lr, lr=0.2, **training):
  return algorithms.agnostic_fedavg(
      MODEL, optax.sgd(lr), num_domains=2, domain_lr=domain_lr,
      **{'batch_size': None} | training)


def run(algorithm, cohorts):
  state = toys.run_cohorts(MODEL, algorithm, DATA, cohorts)
  return jax.device_get(state.server)


def weights(server):
  return np.asarray(jax.nn.softmax(server.extra.logits))


def reference(rounds, domain_lr, lr):
  """Local steps on a_d / b_k times the losses, exponentiated gradients."""
  w, weight, counts = np.zeros(2), np.array([0.5, 0.5]), np.ones(2)
  parts = np.split(np.arange(8), np.cumsum(SIZES)[:-1])
  for _ in range(rounds):
    factors = weight * counts.sum() / counts
    update, total = np.zeros(2), 0.0
    for rows in parts:
      a = factors[DOMAINS[rows]]
      gradient = np.mean(a[:, None] / a.mean() * (w - X[rows]), axis=0)
      update += len(rows) * a.mean() * -lr * gradient
      total += len(rows) * a.mean()
    losses = 0.5 * np.sum((w - X) ** 2, 1)
    means = np.array([losses[DOMAINS == d].mean() for d in (0, 1)])
    weight = weight * np.exp(domain_lr * means)
    weight /= weight.sum()
    counts += [6, 2]
    w = w + update / total
  return w, weight


def test_rounds_by_hand():
  server = run(build(0.1), [EVERYONE] * 6)
  w, weight = reference(6, 0.1, 0.2)
  np.testing.assert_allclose(server.variables.params['w'], w, rtol=1e-5)
  np.testing.assert_allclose(weights(server), weight, rtol=1e-5)


def test_it_ends_where_the_worst_mixture_is_best():
  """That is the middle of the two domains, where both have the same loss."""
  agnostic = run(build(0.02, lr=0.5), [EVERYONE] * 600)
  np.testing.assert_allclose(
      agnostic.variables.params['w'], [1.5, 1], atol=0.02)
  plain = toys.run_cohorts(
      MODEL, algorithms.fedavg(MODEL, optax.sgd(0.5), batch_size=None), DATA,
      [EVERYONE] * 100).server.variables.params['w']
  np.testing.assert_allclose(plain, [3 * 2 / 8, 1], atol=1e-4)


def test_with_one_domain_it_is_fedavg():
  algorithm = algorithms.agnostic_fedavg(
      MODEL, optax.sgd(0.2), num_domains=1, domain_lr=0.5,
      domain=lambda examples: 0 * examples['y'], batch_size=2, epochs=2)
  plain = algorithms.fedavg(MODEL, optax.sgd(0.2), batch_size=2, epochs=2)
  got, want = (run(x, [EVERYONE] * 3).variables.params['w']
               for x in (algorithm, plain))
  np.testing.assert_allclose(got, want, rtol=1e-5)


def test_a_domain_that_nobody_has_keeps_its_weight():
  server = run(build(0.5), [[0], [0]])
  np.testing.assert_allclose(weights(server), [0.5, 0.5], rtol=1e-6)
  np.testing.assert_array_equal(server.extra.counts, [9, 1])
  seen = run(build(0.5), [[1], [1]])
  assert weights(seen)[1] > 0.7


def test_the_loss_that_is_reported_is_the_plain_one():
  result = simulate(MODEL, build(0.5), DATA, rounds=1, client_fraction=1.0,
                    lanes=2)
  np.testing.assert_allclose(
      result.records[0]['train/loss'], 0.5 * np.mean(np.sum(X ** 2, 1)),
      rtol=1e-6)


@pytest.mark.parametrize('bad', [{'num_domains': 0}, {'domain_lr': -1.0}])
def test_bad_arguments(bad):
  with pytest.raises(ValueError, match=next(iter(bad))):
    algorithms.agnostic_fedavg(
        MODEL, optax.sgd(0.1), **{'num_domains': 2, 'domain_lr': 0.1} | bad)


def test_examples_without_a_domain():
  model, data = toys.softmax_model(), toys.softmax_data([5, 3])
  algorithm = algorithms.agnostic_fedavg(
      model, optax.sgd(0.1), num_domains=2, domain_lr=0.1)
  with pytest.raises(ValueError, match='domain must be a function.*x, y'):
    simulate(model, algorithm, data, rounds=1, client_fraction=1.0,
             devices=1, lanes=1)
