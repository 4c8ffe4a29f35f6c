"""What every algorithm promises, whatever it computes."""

import functools

import jax
import numpy as np
import pytest
from jax import numpy as jnp

from fedjax_sim import simulator
from fedjax_sim.core.types import Message
from fedjax_sim.data import sampling
from tests import toys
from tests.algorithms.cases import CASES

MODEL = toys.softmax_model()
SIZES = [5, 1, 11, 8]
DATA = toys.softmax_data(SIZES)
# Of different sizes: rounds with empty slots, and with an empty block.
COHORTS = [[0, 3, 1, 2], [2], [3, 1]]
EVERYONE = [[0, 1, 2, 3]] * 3
NAMES = sorted(CASES)


def build(algorithm, lanes=2, model=MODEL, **options):
  return simulator.build(
      model, algorithm, DATA, sampler_of(COHORTS), lanes=lanes,
      **{'devices': 1} | options)


def sampler_of(cohorts):
  return sampling.Sampler(
      lambda r: np.array(cohorts[r]), len(SIZES), len(SIZES))


def run(simulation, cohorts=COHORTS, per_dispatch=None):
  """The state after rounds with these cohorts."""
  simulation = simulation._replace(sampler=sampler_of(cohorts))
  initial = simulation.init()
  *_, (state, _) = simulation.dispatches(
      simulation.compile(initial), initial, len(cohorts),
      evaluate=lambda r: False, rounds_per_dispatch=per_dispatch)
  return jax.device_get(state)


@functools.cache
def reference(name):
  """(simulation, its state after COHORTS, how often it had to be traced)."""
  traced = []

  def apply(*args, **kwargs):
    traced.append(1)
    return MODEL.apply(*args, **kwargs)

  simulation = build(CASES[name](MODEL._replace(apply=apply)))
  simulation.compile(simulation.init())
  before = len(traced)
  state = run(simulation)
  return simulation, state, (before, len(traced))


def assert_close(got, want, tolerance=1e-5):
  jax.tree.map(lambda a, b: np.testing.assert_allclose(
      a, b, rtol=tolerance, atol=tolerance), got, want)


@pytest.mark.parametrize('name', NAMES)
def test_it_trains(name):
  simulation, state, _ = reference(name)
  start = simulation.init().server.variables
  assert all(np.isfinite(x).all() for x in jax.tree.leaves(state.server)
             if np.issubdtype(x.dtype, np.floating))
  assert np.abs(state.server.variables.params['w'] - start.params['w']
                ).max() > 1e-3


@pytest.mark.parametrize('name', NAMES)
@pytest.mark.parametrize('lanes', [1, 3])
def test_lanes_and_empty_slots_do_not_matter(name, lanes):
  assert_close(run(build(CASES[name](MODEL), lanes)), reference(name)[1])


@pytest.mark.parametrize('name', NAMES)
def test_rounds_per_dispatch_do_not_change_a_bit(name):
  simulation, want, _ = reference(name)
  for count in (1, 2):
    jax.tree.map(np.testing.assert_array_equal,
                 run(simulation, per_dispatch=count), want)


@pytest.mark.parametrize('name', NAMES)
def test_nothing_is_traced_again(name):
  _, _, (before, after) = reference(name)
  assert before == after > 0


@pytest.mark.parametrize('name', NAMES)
def test_who_drops_out_changes_nothing_on_the_server(name):
  """The message of the largest client gets lost: as if it were not drawn."""
  lost = 2
  algorithm = CASES[name](MODEL)
  one = algorithm.aggregator.client

  def client(message: Message, *args):
    message, state = one(message, *args)
    kept = message.present & (message.client != lost)
    # What is lost may be anything.
    update = jax.tree.map(
        lambda u: jnp.where(kept, u, jnp.nan), message.update)
    return message._replace(present=kept, update=update), state

  losing = build(algorithm._replace(
      aggregator=algorithm.aggregator._replace(client=client), pooled=None))
  got = run(losing, [[0, 3, 2, 1], [2, 1]])
  want = run(reference(name)[0], [[0, 3, 1], [1]])
  assert_close(got.server, want.server)
