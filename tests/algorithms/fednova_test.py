"""FedNova against the fixed points and vectors a_k of its paper."""

import jax
import numpy as np
import optax
import pytest

from fedjax_sim import algorithms
from fedjax_sim.experiment import simulate as simulate_lib
from tests import toys

QUADRATIC = toys.quadratic_model()
SIZES = (2, 4, 12)  # 1, 2, 6 steps an epoch of batch 2.
SHARES = np.array(SIZES) / sum(SIZES)
CENTRES = np.array([[0.0, 0.0], [1.0, 1.0], [4.0, 2.0]])
DATA = toys.points_data(
    [np.tile(c, (n, 1)) for c, n in zip(CENTRES, SIZES, strict=True)])


def run(algorithm, rounds, model=QUADRATIC, data=DATA):
  result = simulate_lib.simulate(model, algorithm, data, rounds=rounds,
                                 client_fraction=1.0, lanes=1)
  return np.asarray(result.variables.params['w'])


@pytest.mark.parametrize('options', [
    {}, {'momentum': 0.9, 'proximal': 0.5, 'client_schedule': lambda r: 0.5}])
def test_equal_steps_are_fedavg(options):
  model, data = toys.softmax_model(), toys.softmax_data([6, 5, 6])
  shared = {'epochs': 2, 'batch_size': 2} | options
  server = optax.sgd(0.8, momentum=0.5)
  got = run(algorithms.fednova(model, 0.1, server, **shared), 3, model, data)
  optimizer = optax.sgd(0.1, momentum=shared.pop('momentum', None))
  want = run(algorithms.fedavg(model, optimizer, server, **shared), 3, model,
             data)
  np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)


def fixed_point(lr, normalized):
  """Of local gradient descent on (w - c_k)^2 / 2, tau_k = 3, 6, 18 steps.

  A client moves by (1 - (1 - lr)^tau_k) (c_k - w), normalized by lr tau_k.
  """
  steps = 3 * np.array(SIZES) / 2
  pull = SHARES * (1 - (1 - lr) ** steps)
  return np.average(
      CENTRES, axis=0, weights=pull / (lr * steps) if normalized else pull)


@pytest.mark.parametrize('lr', [0.001, 0.1])
def test_fixed_points_of_unequal_steps(lr):
  shared = {'epochs': 3, 'batch_size': 2}
  server = optax.sgd(0.05 / lr)  # Changes the pace, not the fixed point.
  nova = run(algorithms.fednova(QUADRATIC, lr, server, **shared), 60)
  average = run(
      algorithms.fedavg(QUADRATIC, optax.sgd(lr), server, **shared), 60)
  np.testing.assert_allclose(nova, fixed_point(lr, True), atol=1e-4)
  np.testing.assert_allclose(average, fixed_point(lr, False), atol=1e-4)


def vector_a(steps, momentum, shrink):
  """Weights of the gradients of each step, one unit impulse at a time."""
  weights = []
  for s in range(steps):
    moved = velocity = 0.0
    for t in range(steps):
      velocity = momentum * velocity + (t == s) - shrink * moved
      moved += velocity
    weights.append(moved)
  return np.array(weights)


@pytest.mark.parametrize('momentum, proximal', [
    (0.0, 0.0), (0.9, 0.0), (0.0, 2.0), (0.5, 2.0), (0.0, 10.0), (0.9, 1.0)])
def test_exact_for_momentum_and_proximal_clients(momentum, proximal):
  """Constant gradients g_k: d_k = g_k whatever the solver and the steps."""
  linear = QUADRATIC._replace(
      loss=lambda outputs, examples: (outputs * examples['x']).sum(-1))
  lr, decay = 0.1, 0.5
  algorithm = algorithms.fednova(
      linear, lr, momentum=momentum, proximal=proximal, epochs=2, batch_size=2,
      client_schedule=lambda r: decay ** r)
  want = np.zeros(2)
  for rate in (lr, lr * decay):
    norms = [vector_a(n, momentum, rate * proximal).sum() for n in SIZES]
    want -= SHARES @ norms * rate * (SHARES @ CENTRES)
  np.testing.assert_allclose(run(algorithm, 2, linear), want, rtol=1e-5)


def test_model_state_is_averaged_and_not_normalized():
  """A state that counts its steps, 1, 2, 6."""
  def apply(params, state, x, *, train, **kwargs):
    outputs, _ = QUADRATIC.apply(params, state, x, train=train, **kwargs)
    return outputs, {'steps': state['steps'] + train}
  model = QUADRATIC._replace(
      init=lambda key, x: QUADRATIC.init(key, x)._replace(
          model_state={'steps': np.float32(0)}), apply=apply)
  result = simulate_lib.simulate(
      model, algorithms.fednova(model, 0.1, batch_size=2), DATA, rounds=1,
      client_fraction=1.0, lanes=1)
  steps = jax.device_get(result.variables.model_state['steps'])
  np.testing.assert_allclose(steps, SHARES @ [1, 2, 6], rtol=1e-6)


@pytest.mark.parametrize('bad', [
    {'client_lr': 0}, {'momentum': -0.1}, {'proximal': -1}])
def test_bad_arguments(bad):
  with pytest.raises(ValueError, match=next(iter(bad))):
    algorithms.fednova(QUADRATIC, **{'client_lr': 0.1} | bad)


@pytest.mark.parametrize('momentum', [0.0, 0.5, 0.9, 0.97])
def test_divisors_below_that_of_one_step_are_refused(momentum):
  """Just those: sums of a of up to 40 steps, one gradient at a time."""
  refused = []
  for proximal in (0.1, 1.0, 3.0, 5.0, 8.0, 10.0, 11.0, 19.0):
    sums = [vector_a(n, momentum, 0.1 * proximal).sum() for n in range(1, 41)]
    try:
      algorithms.fednova(QUADRATIC, 0.1, momentum=momentum, proximal=proximal)
    except ValueError as error:
      assert 'client_lr * proximal must be smaller' in str(error)
      refused.append(proximal)
    assert (proximal in refused) == (min(sums) < 1 - 1e-6)
  assert 19.0 in refused and 0.1 not in refused
