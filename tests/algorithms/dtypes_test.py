"""Every algorithm, transform and reducer in half and in double precision.

All are compared with the same run in float32, from the same parameters. What
half precision may differ by is stated in units of its own last place.
"""

import functools

import jax
import numpy as np
import optax
import pytest
from jax import numpy as jnp

import fedjax_sim
from fedjax_sim import algorithms
from fedjax_sim.core.types import Variables
from fedjax_sim.data import sampling
from fedjax_sim.data.federated import federate
from fedjax_sim.experiment import checkpoints
from fedjax_sim.experiment import simulate as simulate_lib
from fedjax_sim.simulation import build as build_lib
from fedjax_sim.simulation.drive import drive
from tests import toys
from tests.aggregation.parts import AGGREGATORS
from tests.algorithms.cases import CASES

SIZES = [5, 1, 11, 8]
COHORTS = [[0, 3, 1, 2], [2], [3, 1]]
# One of each kind: plain, with a server's optimizer and a personal part, with
# control variates, with its own inner steps, of users' functions.
ALWAYS = {'fedavg', 'scaffold', 'fedper', 'apfl, adaptive', 'from_steps'}
ALWAYS |= {'chain', 'buffered', 'masked_mean'}
NAMES = (*sorted(CASES), *AGGREGATORS)
HALVES = (jnp.bfloat16, jnp.float16)


def slow_but_always(name, *values):
  return pytest.param(
      name, *values, marks=[] if name in ALWAYS else pytest.mark.slow)


def model_of(dtype, start=jnp.bfloat16):
  """`softmax_model` that computes in a dtype, from parameters of another."""
  base = toys.softmax_model()

  def init(key, inputs):
    del inputs
    w = jax.random.normal(key, (4, 3), jnp.float32)
    return Variables(jax.tree.map(
        lambda x: x.astype(start).astype(dtype),
        {'w': w, 'b': jnp.zeros(3, jnp.float32)}), {})

  def apply(params, model_state, inputs, **options):
    return base.apply(
        params, model_state, inputs.astype(params['w'].dtype), **options)

  return base._replace(init=init, apply=apply)


def make(name, model):
  """An algorithm, or with a part of aggregation FedAvg."""
  if name in CASES:
    return CASES[name](model)
  return algorithms.fedavg(model, optax.sgd(0.1), epochs=2, batch_size=4,
                           aggregator=AGGREGATORS[name]())


def run(name, dtype, start=jnp.bfloat16):
  """The states before and after three rounds, and the records.

  Some are also evaluated, and have more than one lane.
  """
  model, data = model_of(dtype, start), toys.softmax_data(SIZES)
  sampler = sampling.Sampler(
      lambda r: np.array(COHORTS[r]), len(SIZES), len(SIZES))
  simulation = build_lib.build(
      model, make(name, model), data, sampler, devices=1,
      **{'test': data.examples, 'lanes': 2} if name in ALWAYS
      else {'lanes': 1})
  first = simulation.init()
  before = jax.device_get(first)
  *_, last = drive(simulation, first, len(COHORTS))
  return before, jax.device_get(last.state), last.records[0]


@functools.cache
def reference(name, start=jnp.bfloat16):
  return run(name, jnp.float32, start)


def floats(tree):
  return [np.asarray(x, np.float64) for x in jax.tree.leaves(tree)
          if jnp.issubdtype(x.dtype, jnp.floating)]


def norm(leaves):
  return np.sqrt(sum(np.square(x).sum() for x in leaves))


def dtypes(tree):
  return {str(x.dtype) for x in jax.tree.leaves(tree)}


# A value near the border of two codes gets another one by a rounding.
JUMPS = {'sign_sgd', 'majority_vote', 'eden'}


@pytest.mark.parametrize('name, dtype', [  # Of most, one or the other.
    slow_but_always(name, dtype) for i, name in enumerate(NAMES)
    for j, dtype in enumerate(HALVES) if name in ALWAYS or i % 2 == j])
def test_half_precision_is_float32_up_to_its_rounding(name, dtype):
  """Over three rounds of at most 12 steps each, of weights of about one."""
  before, got, records = run(name, dtype)
  _, want, exact = reference(name)
  assert dtypes(got.server.variables) == {jnp.dtype(dtype).name}
  # Optimizers' states and what a server tracks are wide.
  assert jnp.dtype(dtype).name not in dtypes(got.server.opt_state)
  jax.tree.map(lambda a, b: np.testing.assert_equal(a.dtype, b.dtype), got,
               before)
  if name in JUMPS:
    return
  error = norm([a - b for a, b in zip(
      floats(got.server.variables), floats(want.server.variables),
      strict=True)])
  moved = norm([a - b for a, b in zip(
      floats(want.server.variables), floats(before.server.variables),
      strict=True)])
  unit = float(jnp.finfo(dtype).eps)
  assert error < 12 * unit, (error / unit, moved)
  assert error < moved / 2
  for key in {'train/loss', 'test/loss'} & records[-1].keys():
    assert records[-1][key] == pytest.approx(exact[-1][key], rel=8 * unit)


# Their normal and uniform numbers are drawn in the default precision.
DRAWN_ANEW = {'noise', 'random_mask'}


@pytest.mark.parametrize('name', list(map(slow_but_always, NAMES)))
def test_double_precision_is_float32_up_to_its_rounding(name):
  with jax.enable_x64(True):
    before, got, records = run(name, jnp.float64)
  _, want, exact = reference(name)
  assert dtypes(got.server.variables) == {'float64'}
  jax.tree.map(lambda a, b: np.testing.assert_equal(a.dtype, b.dtype), got,
               before)
  if name in DRAWN_ANEW:
    return
  jax.tree.map(lambda a, b: np.testing.assert_allclose(
      a, b, rtol=1e-4, atol=1e-5), got.server.variables, want.server.variables)
  for key in {'train/loss', 'test/loss'} & records[-1].keys():
    assert records[-1][key] == pytest.approx(exact[-1][key], rel=1e-5)


def test_double_precision_is_kept_all_the_way():
  """FedAvg with momentum on the server, against NumPy in float64."""
  with jax.enable_x64(True):
    model = toys.curved_model()
    model = model._replace(init=lambda key, x: Variables(
        {'w': jnp.zeros(2, jnp.float64)}, {}))
    data = toys.curved_data()
    data = federate(jax.tree.map(lambda x: x.astype(np.float64), data.examples),
                    toys.partition_of((4, 4, 4)))
    got = toys.run_cohorts(model, algorithms.fedavg(
        model, optax.sgd(0.1), algorithms.fedavgm(0.7, 0.9), batch_size=4,
        weighting='uniform'), data, [[0, 1, 2]] * 30).server.variables
  w = velocity = np.zeros(2)
  for _ in range(30):
    velocity = 0.9 * velocity + 0.1 * np.mean(
        toys.CURVATURES[:, None] * (w - toys.OPTIMA), axis=0)
    w = w - 0.7 * velocity
  np.testing.assert_allclose(got.params['w'], w, rtol=1e-13)


def test_losses_in_half_precision_are_summed_in_float32():
  """2,000 of 40 are more than float16 holds, in every kind of sum."""
  base = toys.quadratic_model()
  model = base._replace(
      init=lambda key, x: Variables({'w': jnp.zeros(2, jnp.float16)}, {}),
      loss=lambda outputs, examples: base.loss(
          outputs, {'x': examples['x'].astype(jnp.float16)}))
  points = np.tile(np.array([[8.0, 4.0]], np.float32), (2000, 1))
  data = toys.points_data([points])
  for algorithm in (
      algorithms.fedavg(model, optax.sgd(1e-4), batch_size=2000),
      algorithms.fedavg(model, optax.sgd(1e-4), batch_size=None),
      algorithms.fedsgd(model, 1e-4)):
    result = simulate_lib.simulate(
        model, algorithm, data, rounds=1, client_fraction=1.0,
        test=data.examples, lanes=1)
    assert result.records[-1]['train/loss'] == pytest.approx(40.0)
    assert result.records[-1]['test/loss'] == pytest.approx(40.0, rel=1e-3)
    # The gradient itself is the model's, with its 2,000 terms in float16.
    np.testing.assert_allclose(
        result.variables.params['w'].astype(np.float32), [8e-4, 4e-4],
        rtol=1e-2)


def test_small_updates_of_many_clients_are_not_lost():
  """400 clients move by 1; in bfloat16 their sum would stay at 256."""
  base = toys.quadratic_model()
  model = base._replace(init=lambda key, x: Variables(
      {'w': jnp.zeros(2, jnp.bfloat16)}, {}))
  data = toys.points_data([np.ones((1, 2))] * 400)
  got = toys.run_cohorts(
      model, algorithms.fedavg(model, optax.sgd(1.0), weighting='uniform'),
      data, [np.arange(400)], lanes=4).server.variables.params['w']
  np.testing.assert_array_equal(got.astype(np.float32), [1, 1])


def test_a_schedule_in_float32_does_not_change_the_carry():
  """Nor do a swept rate and an optimizer that promotes."""
  model = model_of(jnp.bfloat16)
  make = lambda rate: algorithms.fedavg(
      model, optax.adamw(rate), algorithms.fedadam(lambda n: 0.1 * rate),
      proximal=rate, client_schedule=lambda r: rate ** r)
  result = fedjax_sim.sweep(
      model, make, toys.softmax_data(SIZES), rounds=2, seeds=[0],
      learning_rates=[0.1], client_fraction=1.0, devices=1, lanes=1)[0, 0.1]
  assert dtypes(result.variables) == {'bfloat16'}


def test_parameters_of_bfloat16_are_saved_as_float32(tmp_path):
  """Which holds them exactly; NumPy's files know no bfloat16."""
  values = jnp.asarray([0.1, -3.0], jnp.bfloat16)
  checkpoints.save_npz(tmp_path / 'a.npz', {'w': values})
  with np.load(tmp_path / 'a.npz') as saved:
    assert saved['w'].dtype == np.float32
    np.testing.assert_array_equal(saved['w'], values.astype(jnp.float32))
