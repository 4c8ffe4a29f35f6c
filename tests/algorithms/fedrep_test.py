import numpy as np
import optax
import pytest

from fedjax_sim import algorithms
from tests import toys
from tests.algorithms import split_toys

MODEL, DATA = split_toys.model(), split_toys.data()
COHORTS = [[0, 1], [1], [0, 1]]  # Client 2 never takes part.
HEAD_EPOCHS, BODY_EPOCHS, RATE = 3, 2, 0.05


def build(optimizer, **kwargs):
  return algorithms.fedrep(
      MODEL, optimizer, **{
          'personal': 'head', 'head_epochs': HEAD_EPOCHS,
          'epochs': BODY_EPOCHS, 'batch_size': None} | kwargs)


def fit_head(body, head, client):
  for _ in range(HEAD_EPOCHS):
    head = split_toys.step(body, head, client, RATE)[1]
  return head


def reference():
  body, heads = split_toys.BODY, [split_toys.HEAD] * 3
  for cohort in COHORTS:
    bodies = []
    for k in cohort:
      heads[k] = fit_head(body, heads[k], k)
      own = body
      for _ in range(BODY_EPOCHS):
        own = split_toys.step(own, heads[k], k, RATE)[0]
      bodies.append(own)
    body = np.average(bodies, axis=0,
                      weights=[split_toys.SIZES[k] for k in cohort])
  return body, heads


def test_rounds_by_hand():
  algorithm = build(optax.sgd(RATE))
  state = toys.run_cohorts(MODEL, algorithm, DATA, COHORTS)
  body, heads = reference()
  np.testing.assert_allclose(
      state.server.variables.params['body'], body, rtol=1e-5)
  np.testing.assert_allclose(state.clients.params['head'], heads, rtol=1e-5)
  # A client is evaluated with the head that its next round begins with.
  for k, own in enumerate(toys.personal_models(algorithm, state, DATA)):
    np.testing.assert_allclose(own.params['body'], body, rtol=1e-5)
    np.testing.assert_allclose(
        own.params['head'], fit_head(body, heads[k], k), rtol=1e-5)


def test_an_optimizer_that_decays_leaves_the_other_part():
  """No loss to speak of: only decay moves anything, each part in its turn."""
  decay = optax.chain(optax.add_decayed_weights(1.0), optax.sgd(RATE))
  flat = MODEL._replace(
      loss=lambda outputs, examples: 0 * MODEL.loss(outputs, examples))
  algorithm = algorithms.fedrep(
      flat, decay, personal='head', head_epochs=3, epochs=2, batch_size=None)
  state = toys.run_cohorts(flat, algorithm, DATA, [[0]])
  np.testing.assert_allclose(
      state.server.variables.params['body'],
      (1 - RATE) ** 2 * split_toys.BODY, rtol=1e-6)
  np.testing.assert_allclose(
      state.clients.params['head'][0], (1 - RATE) ** 3 * split_toys.HEAD,
      rtol=1e-6)


def test_steps_of_the_body_leave_the_epochs_of_the_head():
  algorithm = build(optax.sgd(RATE), steps=BODY_EPOCHS, epochs=1)
  state = toys.run_cohorts(MODEL, algorithm, DATA, COHORTS)
  np.testing.assert_allclose(
      state.server.variables.params['body'], reference()[0], rtol=1e-5)


@pytest.mark.parametrize('bad', [{'head_epochs': 0}, {'epochs': -1}])
def test_bad_arguments(bad):
  with pytest.raises(ValueError, match='epochs must be positive'):
    build(optax.sgd(RATE), **bad)
