"""What every algorithm promises, whatever it computes."""

import dataclasses
import functools
from unittest import mock

import jax
import numpy as np
import pytest
from jax import numpy as jnp

import fedjax_sim
from fedjax_sim import aggregation
from fedjax_sim.clients import local_sgd
from fedjax_sim.core import trees
from fedjax_sim.core.types import Aggregate, ClientData
from fedjax_sim.data import sampling
from fedjax_sim.simulation import build as build_lib
from fedjax_sim.simulation import exchange
from fedjax_sim.simulation.drive import drive
from tests import toys
from tests.algorithms.cases import CASES, some_always

MODEL = toys.softmax_model()
SIZES = [5, 1, 11, 8, 6, 7, 0, 0]
DATA = toys.softmax_data(SIZES)
# Where somebody's message is lost, somebody's weight is zero.
LOST, WEIGHTLESS, EMPTY = 4, 5, 6
# Of different sizes: rounds with empty slots and empty blocks.
COHORTS = [[0, 3, 1, 2], [2], [3, 1]]
EVERYONE = [range(len(SIZES))] * 3
NAMES = sorted(CASES)

# Where a zero weight does count: these want the mean over all N clients, and
# take the mean weight of those not seen yet to be that of those seen.
COUNT_CLIENTS = {'feddyn'}
# Refused by the algorithm, as its docstring says.
WITHOUT_MODEL_STATE = {'from_steps', 'mime'}


def sampler_of(cohorts):
  return sampling.Sampler(
      lambda r: np.array(cohorts[r]), len(SIZES), len(SIZES))


def build(algorithm, lanes=1, devices=1, model=MODEL):
  return build_lib.build(model, algorithm, DATA, sampler_of(COHORTS),
                         lanes=lanes, devices=devices)


def run(simulation, cohorts=COHORTS, per_dispatch=None):
  """The state after rounds with these cohorts, and how many counted."""
  simulation = dataclasses.replace(simulation, sampler=sampler_of(cohorts))
  progress = list(drive(simulation, simulation.init(), len(cohorts),
                        rounds_per_dispatch=per_dispatch))
  return jax.device_get(progress[-1].state), [
      record['clients'] for one in progress for record in one.records[0]]


@functools.cache
def reference(name):
  """(simulation on one device, a client at a time; its state after COHORTS)."""
  simulation = build(CASES[name](MODEL))
  return simulation, run(simulation)[0]


def assert_close(got, want, tolerance=1e-5):
  jax.tree.map(lambda a, b: np.testing.assert_allclose(
      a, b, rtol=tolerance, atol=tolerance), got, want)


@pytest.mark.parametrize('name', NAMES)
def test_it_trains(name):
  simulation, state = reference(name)
  start = simulation.init().server.variables
  moved = [np.abs(a - b).max() for a, b in zip(
      jax.tree.leaves(state.server.variables), jax.tree.leaves(start),
      strict=True)]
  assert np.all(np.isfinite(moved)) and max(moved) > 1e-3


@pytest.mark.parametrize('name', NAMES)
def test_a_round_in_which_nobody_trains_changes_nothing(name):
  """Nobody is drawn, or only who has no examples: no step, no momentum."""
  simulation, want = reference(name)
  for idle in ([], [EMPTY]):
    got, clients = run(simulation, [*COHORTS, idle])
    assert clients[-1] == 0
    same = got._replace(server=got.server._replace(
        round=want.server.round))
    jax.tree.map(np.testing.assert_array_equal, same, want)


@pytest.mark.bits
@pytest.mark.parametrize('name', NAMES)
def test_rounds_per_dispatch_do_not_change_a_bit(name):
  simulation, want = reference(name)
  for count in (1, 2):
    jax.tree.map(np.testing.assert_array_equal,
                 run(simulation, per_dispatch=count)[0], want)


def one_round(algorithm):
  """What a client of five examples sends and keeps, and the server makes it.

  Written down as the engine computes it, with a weighted mean of one message.
  """
  key = jax.random.key(0)
  examples = jax.tree.map(lambda x: jnp.asarray(x[:SIZES[0]]), DATA.examples)
  variables = MODEL.init(key, examples['x'][:1])
  state = algorithm.init(variables, key, len(SIZES))
  data = ClientData(
      examples, jnp.int32(0), jnp.int32(SIZES[0]), SIZES[0], False)
  outputs, aggregates = one_client(algorithm, state, variables, data)
  *earlier, last = aggregates
  new = algorithm.server(state, last, key, *earlier)
  return ([output.message for output in outputs], outputs[-1].state,
          new._replace(opt_state=()))


def one_client(algorithm, state, variables, data):
  """A client's outputs and their aggregates, of each exchange of a round."""
  heard, outputs, aggregates, key = (), [], [], jax.random.key(0)
  for phase in exchange.phases(algorithm):
    heard += phase.broadcast(state, *aggregates),
    said = heard if len(heard) > 1 else heard[0]
    if algorithm.receive is not None:
      said = algorithm.receive(
          said, jax.tree.map(lambda x: x[0], exchange.nobody(1)), None)
    output = phase.client(said, algorithm.client_init(variables), data, key)
    outputs.append(output)
    aggregates.append(alone(output.message))
  return outputs, aggregates


def alone(message):
  """The aggregate of one message."""
  mean = trees.divide_rows(
      trees.scale_rows(message.update, message.weight), message.weight)
  weight = message.weight
  if message.group is not None:
    weight = jnp.where(message.group, weight, 0)
    mean = jax.tree.map(
        lambda x: jnp.where(
            message.group.reshape(-1, *(1,) * x.ndim), x, 0), mean)
  return Aggregate(mean, weight, weight, jnp.int32(1), message.sums)


@pytest.mark.parametrize('name', some_always(NAMES))
def test_compiled_is_what_is_written(name):
  """Line by line, without a compiler, an algorithm does the same."""
  compiled = jax.jit(lambda: one_round(CASES[name](MODEL)))()
  with jax.disable_jit():
    assert_close(one_round(CASES[name](MODEL)), compiled)


@functools.cache
def unlucky(name):
  """On two devices with two lanes; LOST and WEIGHTLESS are what they say."""
  def weightless(weighting):
    return lambda data: jnp.where(
        data.size == SIZES[WEIGHTLESS], 0, weighting(data))

  def client(message, state, memory, keys, cohort):
    kept = message.present & (message.slot.client != LOST)
    # What is lost may be anything.
    update = jax.tree.map(
        lambda u: jnp.where(kept, u, jnp.nan), message.update)
    return message._replace(present=kept, update=update), memory

  weightings = {key: weightless(value)
                for key, value in local_sgd.WEIGHTINGS.items()}
  with mock.patch.dict(local_sgd.WEIGHTINGS, weightings):
    algorithm = CASES[name](MODEL)
    simulation = build(algorithm._replace(aggregator=aggregation.aggregator(
        aggregation.transform('loses', client=client))), lanes=2, devices=2)
    _ = simulation.program.compiled
  return simulation


@pytest.mark.parametrize('name', some_always(NAMES))
def test_lanes_devices_and_who_drops_out_or_has_no_examples_do_not_matter(name):
  """As if these had not been drawn, in all that server and clients keep.

  Those without examples also where weights are equal.
  """
  got, clients = run(unlucky(name), [
      [LOST, 0, EMPTY, 3, 1, 2], [EMPTY, 2, EMPTY + 1],
      [3, LOST, EMPTY + 1, 1]])
  want = reference(name)[1]
  assert_close(got.server, want.server)
  assert_close(got.clients, want.clients)
  assert clients == [4, 1, 2]


@pytest.mark.parametrize('name', some_always(set(NAMES) - COUNT_CLIENTS))
def test_a_weight_of_zero_does_not_change_the_model(name):
  got, _ = run(unlucky(name), [[3, WEIGHTLESS, 1]])
  want, _ = run(reference(name)[0], [[3, 1]])
  assert_close(got.server.variables, want.server.variables)


@pytest.mark.parametrize('name', some_always(NAMES))
def test_members_of_a_sweep_are_runs_of_their_own(name):
  """The learning rate is traced; that of the reference is 0.1."""
  swept = fedjax_sim.sweep(
      MODEL, lambda rate: CASES[name](MODEL, rate), DATA, rounds=3, seeds=[0],
      learning_rates=[0.2, 0.1], client_fraction=1.0, devices=1, lanes=1)
  want = run(reference(name)[0], EVERYONE)[0].server.variables
  assert_close(swept[0, 0.1].variables, want)
  other = swept[0, 0.2].variables.params['w']
  assert np.abs(other - want.params['w']).max() > 1e-3


@pytest.mark.parametrize(
    'name', some_always(set(NAMES) - WITHOUT_MODEL_STATE))
def test_a_model_with_state(name):
  """A state that outputs don't depend on: the parameters are the same."""
  model = toys.watching_model()
  got = run(build(CASES[name](model), model=model))[0].server.variables
  assert_close(got.params, reference(name)[1].server.variables.params)
  assert np.all(np.isfinite(got.model_state['mean']))
