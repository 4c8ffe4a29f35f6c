"""What local work costs: by each paper's algorithm, and by what is computed."""

import jax
import numpy as np
import optax
import pytest
from jax import numpy as jnp

from fedjax_sim import algorithms
from fedjax_sim.core.types import ClientData
from tests import toys
from tests.algorithms import common_test
from tests.algorithms.cases import CASES, some_always

# Two batches of four.
SIZE, BATCH = 8, 4
DATA = toys.softmax_data([SIZE])
MODEL = toys.softmax_model()

# name -> (epochs of local steps, gradients of a step, passes of gradients
# beside, passes of losses beside), from the algorithms as they are written at
# the head of each file, and the arguments in CASES.
BY_HAND = {
    'agnostic_fedavg': (1, 1, 0, 1),  # F_d of all domains, in one pass.
    'apfl': (1, 2, 0, 0),  # grad f(w; b) and grad f(m; b).
    'apfl, adaptive': (2, 2, 0, 0),  # The step of a takes grad f(m; b) too.
    'ditto': (1, 2, 0, 0),  # A step of w and one of v.
    'dpsgd': (1, 1, 0, 0),
    'fedasync': (1, 1, 0, 0),
    'fedavg': (2, 1, 0, 0),
    'fedavg, restricted': (2, 1, 0, 0),
    'fedbuff': (2, 1, 0, 0),
    'feddyn': (2, 1, 0, 0),  # g_k follows from the model.
    'fedexp': (2, 1, 0, 0),
    'fednova': (2, 1, 0, 0),
    'fedper': (1, 1, 0, 0),
    'fedprox': (1, 1, 0, 0),
    'fedrep': (2 + 1, 1, 0, 0),  # Two epochs of the head, one of the body.
    'fedsgd': (1, 1, 0, 0),
    'from_steps': (1, 1, 0, 0),
    'hierfavg': (1, 1, 0, 0),
    'ifca': (1, 1, 0, 2),  # F_k of both models.
    'lasting_momentum of docs/own_algorithm.md': (1, 1, 0, 0),
    'mime': (2, 2, 1, 0),  # At y and at x; before, the whole gradient at x.
    'mimelite': (2, 1, 1, 0),  # The whole gradient at x.
    'per_fedavg': (1, 2, 0, 0),  # On c, and on b.
    'pfedme': (1, 3, 0, 0),  # personal_steps.
    'q_fedavg': (1, 1, 0, 1),  # F_k at w_t.
    'scaffold': (2, 1, 0, 0),
    'scaffold, option 1': (1, 1, 1, 0),  # The whole gradient at x_t.
}
NAMES = sorted(CASES)


@pytest.mark.parametrize('name', NAMES)
def test_costs_are_those_of_the_paper(name):
  epochs, gradients, passes, losses = BY_HAND[name]
  algorithm = CASES[name](MODEL)
  unit = 1 if name == 'fedsgd' else BATCH  # Examples of what a unit is of.
  sizes = np.array([0, SIZE, SIZE + 1])
  in_pass = np.ceil(sizes / unit)
  steps, cost = algorithm.local_steps(sizes), algorithm.local_cost
  np.testing.assert_allclose(
      cost.gradients * steps + cost.beside(sizes),
      in_pass * (epochs * gradients + passes + losses / 3))


def computed(name, work=None):
  """(examples of gradients, of losses alone) of a client's round, counted."""
  seen = {True: 0, False: 0}

  def add(train, count):
    seen[train] += int(count)

  def apply(params, model_state, inputs, *, key, train, mask):
    count = len(inputs) if mask is None else mask.sum()
    jax.debug.callback(lambda count: add(train, count), count)
    return MODEL.apply(
        params, model_state, inputs, key=key, train=train, mask=mask)

  algorithm = CASES[name](MODEL._replace(apply=apply))
  examples = jax.tree.map(jnp.asarray, DATA.examples)
  key = jax.random.key(0)
  variables = MODEL.init(key, examples['x'][:1])
  state = algorithm.init(variables, key, 1)
  data = lambda size: ClientData(
      examples, jnp.int32(0), size, SIZE, True, work=work)
  round_of = jax.jit(lambda size: common_test.one_client(
      algorithm, state, variables, data(size))[0][-1].metrics)
  compiled = round_of.lower(jnp.int32(SIZE)).compile()
  jax.effects_barrier()
  seen.update(dict.fromkeys(seen, 0))  # Tracing has tried the model out.
  compiled(jnp.int32(SIZE))
  jax.effects_barrier()
  return seen[True], seen[False]


@pytest.mark.parametrize('name', some_always(NAMES))
def test_it_is_what_clients_compute(name):
  epochs, gradients, passes, losses = BY_HAND[name]
  assert computed(name) == (
      SIZE * (epochs * gradients + passes), SIZE * losses)


@pytest.mark.parametrize('name', some_always(NAMES))
def test_who_is_cut_short_does_one_step(name):
  """All algorithms that late='partial' takes, by their `counts_steps`."""
  _, gradients, passes, losses = BY_HAND[name]
  algorithm = CASES[name](MODEL)
  if not getattr(algorithm.local_steps, 'counts_steps', False):
    pytest.skip('is refused')
  assert computed(name, jnp.int32(1)) == (
      BATCH * gradients + SIZE * passes, SIZE * losses)


def test_what_trains_twice_can_not_be_cut_short():
  taken = {name for name in NAMES if getattr(
      CASES[name](MODEL).local_steps, 'counts_steps', False)}
  assert set(NAMES) - taken == {'ditto', 'fedrep', 'fedsgd', 'from_steps'}


@pytest.mark.parametrize('options, want', [
    ({}, [0, 1, 2]), ({'steps_per_round': 7}, [0, 7, 7]),
    ({'batch_size': None, 'steps_per_round': 7}, [0, 7 * 100, 7 * 101])])
def test_steps_of_centralized_sgd(options, want):
  algorithm = algorithms.centralized_sgd(MODEL, optax.sgd(0.1), **options)
  np.testing.assert_array_equal(
      algorithm.local_steps(np.array([0, 100, 101])), want)
