"""Transforms on the way down."""

import jax
import numpy as np
import optax
import pytest
from jax import numpy as jnp

from fedjax_sim import aggregation, algorithms
from fedjax_sim.simulation import traffic
from tests import toys
from tests.aggregation.parts import (
    noise,
    padded_signs,
    rounding,
)

MODEL = toys.quadratic_model()
DATA = toys.points_data([np.array([[0.35, 0]]), np.array([[1.0, 2]])])


def after(rounds, part):
  algorithm = algorithms.fedavg(
      MODEL, optax.sgd(0.5), aggregator=aggregation.aggregator(part))
  state = toys.run_cohorts(MODEL, algorithm, DATA, [[0, 1]] * rounds)
  return np.asarray(state.server.variables.params['w'], np.float64)


def test_clients_start_from_what_they_receive():
  """w <- w + mean of half the way from round(w) to the clients' points."""
  want = np.zeros(2)
  for _ in range(3):
    received = np.round(want * 4) / 4
    want = want + 0.5 * (np.array([0.675, 1.0]) - received)
  coarse = aggregation.downlink(
      aggregation.chain(padded_signs(), rounding(4.0)))
  np.testing.assert_allclose(after(3, coarse), want, rtol=1e-6)
  assert np.abs(after(3, aggregation.identity()) - want).max() > 0.01


def test_bits_down_are_those_of_the_part():
  algorithm = algorithms.fedavg(
      MODEL, optax.sgd(0.5), aggregator=aggregation.aggregator(
          aggregation.downlink(padded_signs())))
  variables = MODEL.init(None, None)
  # Two floats padded to eight, and the round.
  assert traffic.per_client(
      algorithm, DATA.examples, variables).down == 8 * 4 + 4


def test_a_part_with_memory_is_refused():
  part = aggregation.downlink(aggregation.error_feedback(rounding()))
  with pytest.raises(ValueError, match="without state and memory"):
    part.broadcast(MODEL.init(None, None), (), jax.random.key(0))


def test_compressors_go_down_too():
  """Each leaf at the nearest of 4 levels; rotated it comes back, padded."""
  rng = np.random.default_rng(0)
  sent = {'round': jnp.int32(3), 'w': rng.normal(size=(5, 3)), 'b': rng.normal(
      size=4)}
  sent = jax.tree.map(lambda x: jnp.asarray(x, jnp.asarray(x).dtype), sent)
  whole, rotated = (
      aggregation.downlink(part).broadcast(sent, (), jax.random.key(0))
      for part in (aggregation.quantize(2, stochastic=False),
                   aggregation.rotate()))
  for name in 'wb':
    x = np.asarray(sent[name], np.float64)
    step = np.ptp(x) / 3
    want = x.min() + step * np.round((x - x.min()) / step)
    np.testing.assert_allclose(whole[0][name], want, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(rotated[0][name], x, rtol=1e-5, atol=1e-6)
  assert whole[0]['round'] == rotated[0]['round'] == 3
  assert whole[2] == 2 * 19 + 2 * 64 + 32
  assert rotated[2] == 32 * (16 + 4) + 32


def test_leaves_keep_their_names():
  """Quarters of the leaf that the end of a path says, the other as it is."""
  params = {'v': jnp.array([0.3, 1.1]), 'w': jnp.array([0.3, 1.1])}
  sent = {'round': jnp.int32(1), 'variables': {'params': params}}
  part = aggregation.downlink(aggregation.on('params/w', rounding(4.0)))
  received, _, bits = part.broadcast(sent, (), jax.random.key(0))
  np.testing.assert_array_equal(
      received['variables']['params']['w'], [0.25, 1.0])
  np.testing.assert_array_equal(
      received['variables']['params']['v'], params['v'])
  assert received['round'] == 1 and bits == 5 * 32


def test_a_part_without_effect_is_refused():
  with pytest.raises(ValueError, match='a downlink itself'):
    aggregation.downlink(aggregation.downlink(aggregation.clip(0.5)))
  with pytest.raises(ValueError, match="'noise' leaves their messages"):
    aggregation.downlink(noise()).broadcast(
        MODEL.init(None, None), (), jax.random.key(0))
  with pytest.raises(ValueError, match='part of downlink .* got a reducer'):
    aggregation.downlink(aggregation.median())
