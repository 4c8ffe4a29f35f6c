import jax
import numpy as np
import pytest
from jax import numpy as jnp

from fedjax_sim import evaluation, interpolation
from fedjax_sim.core.types import Model, Variables
from tests import toys

THETAS = np.array([-0.2, 0.0, 0.3, 0.5, 1.0, 1.2])
MODEL = toys.softmax_model()
EXAMPLES = toys.softmax_data([55]).examples
A, B = (jax.device_get(MODEL.init(jax.random.key(seed), None))
        for seed in (0, 1))


@pytest.mark.parametrize('batch_size', [1, 7, 55, 1000])
def test_equals_numpy(batch_size):
  def loss(theta):
    w, b = (theta * np.float64(A.params[name])
            + (1 - theta) * np.float64(B.params[name]) for name in 'wb')
    scores = EXAMPLES['x'] @ w + b
    log_p = scores - np.log(np.exp(scores).sum(1, keepdims=True))
    return -log_p[np.arange(55), EXAMPLES['y']].mean()

  got = interpolation.loss_between(MODEL, A, B, EXAMPLES, THETAS, batch_size)
  assert got.dtype == np.float64
  np.testing.assert_allclose(got, [loss(t) for t in THETAS], rtol=1e-5)


def test_the_ends_are_the_models():
  got = interpolation.loss_between(MODEL, A, B, EXAMPLES, [1, 0])
  want = [evaluation.evaluate(MODEL, v, EXAMPLES)['loss'] for v in (A, B)]
  np.testing.assert_allclose(got, want, rtol=1e-6)


def test_between_equal_models_the_loss_is_theirs():
  got = interpolation.loss_between(MODEL, A, A, EXAMPLES, THETAS)
  want = evaluation.evaluate(MODEL, A, EXAMPLES)['loss']
  np.testing.assert_allclose(got, np.full(len(THETAS), want), rtol=1e-6)


def test_squared_loss_is_a_parabola_of_known_curvature():
  # Outputs are linear in theta, so L'' = mean (output_a - output_b)^2.
  rng = np.random.default_rng(0)
  examples = {'x': rng.normal(size=(31, 3)).astype(np.float32),
              'y': rng.normal(size=31).astype(np.float32)}
  a, b = (Variables({'w': rng.normal(size=3).astype(np.float32),
                     'b': np.float32(shift)}, {}) for shift in (0.5, -1))
  step = 0.1
  losses = interpolation.loss_between(
      toys.linear_model(), a, b, examples, np.arange(-2, 13) * step, 10)
  gap = examples['x'] @ (a.params['w'] - b.params['w']) + 1.5
  np.testing.assert_allclose(
      np.diff(losses, 2) / step ** 2, np.full(13, np.mean(gap ** 2)), rtol=1e-3)


def test_model_state_is_mixed_too():
  def apply(params, model_state, inputs, *, key, train, mask):
    del key, train, mask
    return params + model_state + 0 * inputs, model_state

  model = Model(None, apply, lambda outputs, examples: outputs, lambda *_: {})
  got = interpolation.loss_between(
      model, Variables(jnp.float32(1), jnp.float32(20)),
      Variables(jnp.float32(3), jnp.float32(40)),
      {'x': np.ones(5, np.float32)}, [0, 0.25, 1])
  np.testing.assert_allclose(got, [43, 37.5, 21], rtol=1e-6)


@pytest.mark.parametrize('thetas', [0.5, [[0.5]], [0.5, np.nan], ['half']])
def test_thetas_must_be_numbers(thetas):
  with pytest.raises(ValueError, match='thetas must be'):
    interpolation.loss_between(MODEL, A, B, EXAMPLES, thetas)


def test_models_of_other_shapes_are_refused():
  larger = Variables({'w': np.zeros((5, 3)), 'b': np.zeros(3)}, {})
  with pytest.raises(ValueError, match='of the same shapes'):
    interpolation.loss_between(MODEL, A, larger, EXAMPLES, THETAS)
