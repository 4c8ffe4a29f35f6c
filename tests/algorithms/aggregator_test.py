"""Every algorithm sends all that it learns through its aggregator."""

import inspect

import jax
import numpy as np
import optax
import pytest

from fedjax_sim import aggregation, algorithms
from fedjax_sim.core import random
from fedjax_sim.core.types import ServerState
from fedjax_sim.simulation.rounds import Rounds
from tests import toys
from tests.algorithms.cases import AGGREGATED as NAMES
from tests.algorithms.cases import CASES, with_aggregator

MODEL = toys.softmax_model()
DATA = toys.softmax_data([5, 1, 11, 8])
COHORTS = [[0, 3, 1, 2], [2, 0], [3, 1, 0]]


@pytest.mark.parametrize('name', NAMES)
def test_it_uses_the_aggregator_that_it_is_given(name):
  aggregator = aggregation.aggregator(aggregation.rotate())
  made = with_aggregator(name, MODEL, aggregator).aggregator
  # FedExP adds to what clients do.
  assert made.transform.server is aggregator.transform.server


def test_all_algorithms_of_the_package_are_in_the_list():
  # FedBN is FedPer, for models of another kind.
  builders = {name for name in algorithms.__all__ if 'aggregator' in (
      inspect.signature(getattr(algorithms, name)).parameters)}
  assert builders - {'from_client_update', 'fedbn'} <= set(NAMES)


def server_after(algorithm) -> ServerState:
  state = toys.run_cohorts(MODEL, algorithm, DATA, COHORTS).server
  return jax.device_get(state)


def vectors(tree):
  """The leaves of a vector's size, by name."""
  return {jax.tree_util.keystr(path): x
          for path, x in jax.tree.leaves_with_path(tree) if np.ndim(x) > 0}


CLIPPED = {
    'scaffold': lambda aggregator: algorithms.scaffold(
        MODEL, 0.1, epochs=2, batch_size=4, aggregator=aggregator),
    'feddyn': lambda aggregator: algorithms.feddyn(
        MODEL, optax.sgd(0.1), alpha=0.5, batch_size=4, aggregator=aggregator),
    'mime': lambda aggregator: algorithms.mime(
        MODEL, optax.sgd(0.1, momentum=0.5), batch_size=4,
        aggregator=aggregator),
    'mimelite': lambda aggregator: algorithms.mimelite(
        MODEL, optax.sgd(0.1, momentum=0.5), batch_size=4,
        aggregator=aggregator),
}


@pytest.mark.parametrize('name', CLIPPED)
def test_clip_bounds_all_that_the_server_learns(name):
  """Of an update clipped to 1e-6 no vector of the server learns more.

  What SCAFFOLD, FedDyn and Mime keep on the server starts at zero and is made
  of sums of updates; three rounds of at most four clients can't take it, nor
  the model, further than the clipped lengths allow.
  """
  norm = 1e-6
  # SCAFFOLD and FedDyn refuse a clip that says what it does.
  clip = aggregation.clip(norm)._replace(encodings=())
  algorithm = CLIPPED[name](aggregation.aggregator(clip))
  start = MODEL.init(random.named(jax.random.key(0), 'model'), None)
  end = server_after(algorithm)
  bound = 3 * 4 * norm / 0.5  # FedDyn divides by alpha.
  moved = jax.tree.map(
      lambda a, b: np.abs(a - b).max(), end.variables.params,
      start.params)
  # Up to what rounding makes of weights of about one.
  assert max(jax.tree.leaves(moved)) < bound + 1e-6
  for key, value in vectors(end.extra).items():
    assert np.abs(value).max() < bound, key
  free = server_after(CLIPPED[name](None))
  assert max(np.abs(x).max() for x in vectors(free.extra).values()) > 1e-3


@pytest.mark.parametrize('name', NAMES)
def test_sums_are_scalars_or_short_vectors(name):
  """No more numbers than there are domains."""
  algorithm = CASES[name](MODEL)
  rounds = Rounds(
      algorithm=algorithm, num_clients=4, devices=1, max_size=11, ragged=True,
      cohort_size=4, num_states=4)

  def sums(examples):
    variables = MODEL.init(jax.random.key(0), examples['x'][:1])
    walked = rounds.walk(
        examples, algorithm.init(variables, jax.random.key(0), 4),
        algorithm.client_init(variables), None)
    return [(w.message.sums, w.message.weight) for w in walked]

  shapes = jax.eval_shape(sums, DATA.examples)
  assert all(x.size <= 3 for x in jax.tree.leaves(shapes))
