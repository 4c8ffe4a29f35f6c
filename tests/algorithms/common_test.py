"""What every algorithm promises, whatever it computes."""

import functools
from unittest import mock

import jax
import numpy as np
import pytest
from jax import numpy as jnp

import fedjax_sim
from fedjax_sim.clients import local_sgd
from fedjax_sim.core import trees
from fedjax_sim.core.types import Aggregate, ClientData, Pool
from fedjax_sim.data import sampling
from fedjax_sim.simulation import simulate as simulate_lib
from tests import toys
from tests.algorithms.cases import CASES, some_always

MODEL = toys.softmax_model()
SIZES = [5, 1, 11, 8]
DATA = toys.softmax_data(SIZES)
# Of different sizes: rounds with empty slots and empty blocks.
COHORTS = [[0, 3, 1, 2], [2], [3, 1]]
EVERYONE = [[0, 1, 2, 3]] * 3
NAMES = sorted(CASES)

# Where a zero weight does count: these want the mean over all N clients, and
# take the mean weight of those not seen yet to be that of those seen.
COUNT_CLIENTS = {'feddyn'}
# Refused by the algorithm, as its docstring says.
WITHOUT_MODEL_STATE = {'from_steps', 'mime'}


def sampler_of(cohorts):
  return sampling.Sampler(
      lambda r: np.array(cohorts[r]), len(SIZES), len(SIZES))


def build(algorithm, lanes=2, devices=1, model=MODEL):
  return simulate_lib.build(model, algorithm, DATA, sampler_of(COHORTS),
                            lanes=lanes, devices=devices)


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
  """(simulation, its state after COHORTS, traces before and after these)."""
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
  moved = [np.abs(a - b).max() for a, b in zip(
      jax.tree.leaves(state.server.variables), jax.tree.leaves(start),
      strict=True)]
  assert np.all(np.isfinite(moved)) and max(moved) > 1e-3


@pytest.mark.parametrize('name', NAMES)
def test_its_state_is_arrays_of_fixed_shapes(name):
  """What a checkpoint and a loop need."""
  simulation, state, _ = reference(name)
  kinds = lambda tree: jax.tree.map(lambda x: (x.shape, x.dtype.name), tree)
  assert kinds(simulation.init()) == kinds(state)


@pytest.mark.parametrize('name', some_always(NAMES))
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


def one_round(algorithm):
  """What a client of five examples sends and keeps, and the server makes it."""
  key = jax.random.key(0)
  examples = jax.tree.map(lambda x: jnp.asarray(x[:SIZES[0]]), DATA.examples)
  variables = MODEL.init(key, examples['x'][:1])
  state = algorithm.init(variables, key, len(SIZES))
  down = algorithm.broadcast(state)
  if algorithm.prepare is not None:
    slot = jnp.zeros(1, jnp.int32)
    down = down, algorithm.prepare(down, Pool(
        examples, slot, slot + SIZES[0], slot == 0, key[None])).mean
  output = algorithm.client(
      down, algorithm.client_init(variables),
      ClientData(examples, jnp.int32(0), jnp.int32(SIZES[0]), SIZES[0], False),
      key)
  message = output.message
  mean = trees.divide_rows(
      trees.scale_rows(message.update, message.weight), message.weight)
  new = algorithm.server(
      state, Aggregate(mean, message.weight, jnp.int32(1), message.aux), key)
  return message, output.state, new._replace(opt_state=())


@pytest.mark.parametrize('name', some_always(NAMES))
def test_compiled_is_what_is_written(name):
  """Line by line, without a compiler, an algorithm does the same."""
  compiled = jax.jit(lambda: one_round(CASES[name](MODEL)))()
  with jax.disable_jit():
    assert_close(one_round(CASES[name](MODEL)), compiled)


LOST, WEIGHTLESS = 0, 2


@functools.cache
def unlucky(name):
  """Client LOST's message is lost, client WEIGHTLESS has a weight of zero."""
  def weightless(weighting):
    return lambda data: jnp.where(
        data.size == SIZES[WEIGHTLESS], 0, weighting(data))

  def client(message, *args):
    message, state = algorithm.aggregator.client(message, *args)
    kept = message.present & (message.client != LOST)
    # What is lost may be anything.
    update = jax.tree.map(
        lambda u: jnp.where(kept, u, jnp.nan), message.update)
    return message._replace(present=kept, update=update), state

  def prepare(message, pool):
    kept = pool.present & (pool.offsets != DATA.offsets[LOST])
    return algorithm.prepare(message, pool._replace(present=kept))

  weightings = {key: weightless(value)
                for key, value in local_sgd.WEIGHTINGS.items()}
  with mock.patch.dict(local_sgd.WEIGHTINGS, weightings):
    algorithm = CASES[name](MODEL)
    simulation = build(algorithm._replace(
        aggregator=algorithm.aggregator._replace(client=client), pooled=None,
        prepare=algorithm.prepare and prepare))
    simulation.compile(simulation.init())
  return simulation


@pytest.mark.parametrize('name', some_always(NAMES))
def test_who_drops_out_changes_nothing_on_the_server(name):
  """As if it had not been drawn, in all that the server keeps."""
  got = run(unlucky(name), [[0, 3, 1], [1, 0]])
  want = run(reference(name)[0], [[3, 1], [1]])
  assert_close(got.server, want.server)


@pytest.mark.parametrize('name', some_always(set(NAMES) - COUNT_CLIENTS))
def test_a_weight_of_zero_does_not_change_the_model(name):
  got = run(unlucky(name), [[3, 2, 1]])
  want = run(reference(name)[0], [[3, 1]])
  assert_close(got.server.variables, want.server.variables)


@pytest.mark.parametrize('name', some_always(NAMES))
def test_members_of_a_sweep_are_runs_of_their_own(name):
  """The learning rate is traced; that of the reference is 0.1."""
  swept = fedjax_sim.sweep(
      MODEL, lambda rate: CASES[name](MODEL, rate), DATA, rounds=3, seeds=[0],
      learning_rates=[0.2, 0.1], client_fraction=1.0, devices=1, lanes=1)
  want = run(reference(name)[0], EVERYONE).server.variables
  assert_close(swept[0, 0.1].variables, want)
  other = swept[0, 0.2].variables.params['w']
  assert np.abs(other - want.params['w']).max() > 1e-3


@pytest.mark.parametrize(
    'name', some_always(set(NAMES) - WITHOUT_MODEL_STATE))
def test_a_model_with_state(name):
  """A state that outputs don't depend on: the parameters are the same."""
  model = toys.watching_model()
  got = run(build(CASES[name](model), lanes=1, model=model)).server.variables
  assert_close(got.params, reference(name)[1].server.variables.params)
  assert np.all(np.isfinite(got.model_state['mean']))
