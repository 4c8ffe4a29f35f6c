"""What a round must not become again when it is compiled.

Programs are traced, lowered or compiled here, and never run: collectives,
scatters and gathers are counted. `benchmarks/compiled` reads more of it, of
programs for accelerators.
"""

import math

import jax
import numpy as np
import optax
import pytest

from benchmarks import contenders
from benchmarks.compiled import compilation, hlo, traced
from benchmarks.compiled.matrix import Case
from benchmarks.compiled.targets import TARGETS
from fedjax_sim import algorithms, data, models
from fedjax_sim.clients import batches
from fedjax_sim.core import compilation as package_compilation
from fedjax_sim.data import sampling
from fedjax_sim.simulation import build as build_lib
from tests import toys
from tests.algorithms.cases import CASES

MARK = 'one_local_step'
BACKENDS = {'gpu': 'cuda', 'tpu': 'tpu'}
# name -> (model, shape and dtype of an input, shape of a label).
MODELS = {
    'mnist_2nn': (models.mnist_2nn, (28, 28, 1), np.uint8, ()),
    'mnist_cnn': (models.mnist_cnn, (28, 28, 1), np.uint8, ()),
    'cifar_cnn': (models.cifar_cnn, (32, 32, 3), np.uint8, ()),
    'shakespeare_lstm': (models.shakespeare_lstm, (16,), np.int32, (16,)),
    'word_lstm': (models.word_lstm, (4,), np.int32, (4,)),
}


@pytest.fixture
def backend(monkeypatch):
  """Makes the package take the devices for those of another platform."""
  return lambda name: monkeypatch.setattr(
      package_compilation, 'platform_of', lambda device: name)


@pytest.fixture
def marked(monkeypatch):
  """Names the operations of a local step."""
  original = batches.for_each_batch
  monkeypatch.setattr(
      batches, 'for_each_batch', lambda data, step, *args, **kwargs: original(
          data, jax.named_scope(MARK)(step), *args, **kwargs))


def simulation(model, algorithm, train, *, devices=1, lanes=2, test=None):
  count = train.num_clients
  return build_lib.build(
      model, algorithm, train, sampling.uniform(count, count, 0),
      devices=devices, lanes=lanes, test=test)


def of_model(name, clients=4, size=4):
  """Two equal batches for each client, of zeros."""
  make, x, dtype, y = MODELS[name]
  model = make()
  examples = {'x': np.zeros((size, *x), dtype), 'y': np.zeros(
      (size, *y), np.int32)}
  return simulation(
      model, algorithms.fedavg(model, optax.sgd(0.1), batch_size=2),
      data.from_clients([examples] * clients), lanes=clients)


@pytest.mark.slow
@pytest.mark.parametrize('name', ['fedavg', 'scaffold'])
@pytest.mark.parametrize('sizes', [[8] * 8, [1, 5, 8, 2, 7, 4, 3, 6]])
def test_a_round_on_several_devices_has_one_collective(name, sizes):
  """The evaluation's sums are added up under its condition."""
  model = toys.softmax_model()
  program = simulation(
      model, CASES[name](model), toys.softmax_data(sizes), devices=4,
      test=toys.softmax_data([8]).examples).program.compiled
  counts = hlo.collectives(hlo.parse(program.as_text()))
  evaluation = counts.pop('evaluation')
  assert evaluation >= 1
  assert counts == {'all-reduce': 1}


@pytest.mark.slow
@pytest.mark.parametrize('platform', BACKENDS)
@pytest.mark.parametrize('name', MODELS)
def test_a_step_gathers_rows_scatters_nothing_and_is_lowered(
    name, platform, backend, marked):
  """Scatters are float atomics on a GPU, whose bits don't repeat; slices that
  start elsewhere in each lane are one lane after the other on a TPU."""
  backend(platform)
  program = of_model(name).program.traced
  steps = list(traced.steps(program.jaxpr.jaxpr, MARK))
  assert steps
  for step in steps:
    for equation in traced.everything(step):
      primitive = equation.primitive.name
      assert primitive != 'gather' or _takes_rows(equation), equation
      assert not primitive.startswith('scatter') or _is_update(equation)
  assert program.lower(lowering_platforms=(BACKENDS[platform],))


def _is_update(scatter):
  """Whether all lanes write to one place, once: a slice that is replaced."""
  starts = math.prod(scatter.invars[1].aval.shape[:-1])
  return starts == 1 and scatter.params['unique_indices']


def _takes_rows(gather):
  """Whether what starts elsewhere in each lane is one row, no longer slice.

  With a single start for all lanes it is a slice, as a compiler sees.
  """
  starts = math.prod(gather.invars[1].aval.shape[:-1])
  axes = gather.params['dimension_numbers'].start_index_map
  return starts == 1 or all(
      gather.params['slice_sizes'][axis] == 1 for axis in axes)


@pytest.mark.slow
@pytest.mark.parametrize('platform', BACKENDS)
def test_unequal_clients_need_few_programs_of_a_step(
    platform, backend, marked):
  """An accelerator takes as long for few lanes as for some more."""
  backend(platform)
  model = toys.softmax_model()
  sizes = list(range(1, 33))
  jaxpr = simulation(
      model, CASES['fedavg'](model), toys.softmax_data(sizes),
      lanes=32).program.traced.jaxpr.jaxpr
  assert 1 < len(list(traced.steps(jaxpr, MARK))) <= 3


@pytest.mark.slow
@pytest.mark.parametrize('name', CASES)
def test_all_algorithms_are_lowered_for_accelerators(name, backend):
  backend('gpu')
  model = toys.softmax_model()
  program = simulation(
      model, CASES[name](model), toys.softmax_data([8, 3, 5]), devices=2,
      test=toys.softmax_data([8]).examples).program.traced
  assert program.lower(lowering_platforms=tuple(BACKENDS.values()))


@pytest.mark.slow
@pytest.mark.parametrize('case', [
    Case('gpu', 'mnist_2nn'), Case('gpu', 'mnist_2nn', unequal=True),
    Case('tpu', 'mnist_2nn', unequal=True)])
def test_no_host_drives_loops_and_no_loop_takes_lanes_in_turn(case, tmp_path):
  environment = contenders.folder(TARGETS[case.target].environment)
  if not environment.exists():
    pytest.skip('python -m benchmarks.compiled --setup makes what compiles')
  facts = compilation.compiled(case, contenders.ROOT, tmp_path / 'round')
  assert facts['lane_loops'] == []
  if case.target == 'gpu':
    assert facts['graphs'] == 1 and facts['host_loops'] == 0
    assert facts['kernels'] <= (20 if case.unequal else 18)
