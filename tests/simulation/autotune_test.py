import json

import jax
import numpy as np
import optax
import pytest

from fedjax_sim import algorithms
from fedjax_sim.core import compilation, files, machine_load
from fedjax_sim.data import sampling
from fedjax_sim.simulation import autotune, job_size, measuring
from fedjax_sim.simulation import build as build_lib
from fedjax_sim.simulation.drive import drive
from fedjax_sim.simulation.placement import device_memory
from fedjax_sim.simulation.placement.device_memory import Memory
from tests import toys

_CHOOSE = autotune.choose  # Which conftest.py replaces.


@pytest.fixture(autouse=True)
def _measured(monkeypatch, tmp_path):
  """On one device, with a cache of its own."""
  monkeypatch.setattr(autotune, 'choose', _CHOOSE)
  monkeypatch.setattr(jax, 'devices', lambda: jax.local_devices()[:1])
  monkeypatch.setattr(
      machine_load, 'now', lambda: machine_load.Load(0.0, 0.0))
  monkeypatch.setenv('FEDJAX_SIM_CACHE_DIR', str(tmp_path))


def build(lanes_choice, sizes=(30, 4, 17, 9, 12, 5), rate=0.1, epochs=1,
          rounds=10**9):
  model = toys.softmax_model()
  return build_lib.build(
      model, algorithms.fedavg(
          model, optax.sgd(rate), batch_size=4, epochs=epochs),
      toys.softmax_data(sizes), sampling.uniform(len(sizes), 4, seed=0),
      lanes=lanes_choice, rounds=rounds)


@pytest.mark.parametrize('cohort, want', [
    (1, [1]), (2, [1, 2]), (10, [1, 2, 4, 5, 10]), (16, [1, 2, 4, 8, 16])])
def test_candidates_fill_their_blocks(cohort, want):
  assert autotune.candidates(cohort) == want
  for width in want:  # One lane fewer would take another block.
    blocks = -(-cohort // width)
    assert width == 1 or -(-cohort // (width - 1)) > blocks


@pytest.mark.parametrize('fastest', [
    2, pytest.param(1, marks=pytest.mark.slow),
    pytest.param(4, marks=pytest.mark.slow)])
def test_the_fastest_is_chosen_and_remembered(monkeypatch, fastest):
  monkeypatch.setattr(
      measuring, '_time', lambda sim, *args: 1.0 + abs(sim.lanes - fastest))
  chosen = build('auto')
  assert chosen.lanes == fastest
  assert 'measured, relative time' in chosen.lanes_reason
  monkeypatch.setattr(measuring, '_time', None)  # Not called again.
  again = build('auto')
  assert (again.lanes, again.lanes_reason) == (fastest, 'measured earlier')


def test_the_real_measurement_changes_no_result():
  chosen, given = build('auto'), build(2)
  results = []
  for simulation in (chosen, given):
    *_, last = drive(simulation, simulation.init(), 3)
    results.append(np.asarray(last.state.server.variables.params['w']))
  assert chosen.lanes in autotune.candidates(4)
  np.testing.assert_allclose(*results, rtol=1e-5, atol=1e-6)


def test_other_sizes_are_measured_anew():
  assert autotune._key(build(1), []) == autotune._key(build(1), [])
  assert autotune._key(build(1), []) != autotune._key(
      build(1, (30, 4, 17, 9, 12, 6)), [])


def test_another_rate_is_not_measured_anew_another_program_is():
  assert autotune._key(build(1), []) == autotune._key(build(1, rate=0.2), [])
  assert autotune._key(build(1), []) != autotune._key(build(1, epochs=2), [])


def test_what_does_not_fit_is_not_chosen(monkeypatch):
  """Two lanes would be fastest; there is room for one only."""
  programs = []
  monkeypatch.setattr(measuring, '_time', lambda sim, *args: 1 / sim.lanes)
  monkeypatch.setattr(
      device_memory, 'needed',
      lambda program, placement: programs.append(program) or Memory(
          0, 1e9 * len(programs)))
  monkeypatch.setattr(device_memory, 'available', lambda device: 1e9)
  assert build('auto').lanes == 1


def test_a_run_that_cannot_fit_says_so(monkeypatch):
  monkeypatch.setattr(
      device_memory, 'needed', lambda program, placement: Memory(3e9, 4e9))
  monkeypatch.setattr(device_memory, 'available', lambda device: 5e9)
  with pytest.raises(ValueError, match='need 7.0 GB.*lanes = 1.*has 5.0 GB'):
    build('auto')
  simulation = build(4)
  with pytest.raises(ValueError, match='lanes = 4'):
    _ = simulation.program.compiled


def damage_the_cache(folder, monkeypatch, unclear):
  monkeypatch.setattr(
      measuring, 'fastest', lambda make, choices: measuring.Measured(
          make(1, 2), {(1, 2): 1.0}, unclear))
  (folder / 'lanes.json').write_text('{"a": 1')


def test_a_damaged_cache_is_measured_over(tmp_path, monkeypatch):
  damage_the_cache(tmp_path, monkeypatch, unclear='')
  build('auto')
  assert len(json.loads((files.cache_folder() / 'lanes.json').read_text())) == 1


def test_what_is_unclear_is_not_kept(tmp_path, monkeypatch):
  damage_the_cache(tmp_path, monkeypatch, unclear='it rains')
  assert build('auto').lanes_reason.startswith(
      'default, since it rains; measured, relative time by devices x lanes')
  assert (tmp_path / 'lanes.json').read_text() == '{"a": 1'


def test_a_short_job_is_not_measured_a_long_one_is(monkeypatch):
  """3 steps a client, of 20 microseconds: ten minutes are ten million."""
  monkeypatch.setattr(measuring, 'fastest', None)
  short = build('auto', rounds=100_000)
  assert (short.lanes, short.lanes_reason) == (1, 'default of a short job')
  assert build('auto', rounds=None).lanes_reason == 'default'
  with pytest.raises(TypeError):  # None is called.
    build('auto', rounds=100_000_000)


def test_a_short_job_takes_what_fits(monkeypatch):
  """There is no room for the first program."""
  needs = iter([Memory(0, 2e9), Memory(0, 1e9)])
  monkeypatch.setattr(
      device_memory, 'needed', lambda program, placement: next(needs))
  monkeypatch.setattr(device_memory, 'available', lambda device: 1e9)
  assert build('auto', rounds=3).lanes == 2


def test_measuring_can_be_asked_for(monkeypatch):
  monkeypatch.setattr(measuring, '_time', lambda sim, *args: 1 / sim.lanes)
  assert build('measure', rounds=3).lanes == 4
  for wrong in ('fast', 0):
    with pytest.raises(ValueError, match="lanes must be 'auto', 'measure' or"):
      build(wrong)


@pytest.mark.parametrize('lanes, reason', [
    (4, 'all clients side by side'), (2, 'as many as the memory holds'),
    (1, 'as many as the memory holds')])
def test_an_accelerator_takes_the_most_lanes_that_fit(
    monkeypatch, lanes, reason):
  """Of 4, 2 and 1, without measuring."""
  monkeypatch.setattr(compilation, 'platform_of', lambda device: 'tpu')
  monkeypatch.setattr(measuring, 'fastest', None)
  limit = build(lanes).program.memory.total
  monkeypatch.setattr(device_memory, 'available', lambda device: limit)
  chosen = build('auto')
  assert (chosen.lanes, chosen.lanes_reason) == (lanes, reason)


def test_one_whose_memory_nobody_knows_takes_all_lanes(monkeypatch):
  monkeypatch.setattr(compilation, 'platform_of', lambda device: 'tpu')
  monkeypatch.setattr(device_memory, 'available', lambda device: None)
  assert build('auto').lanes == 4


@pytest.mark.parametrize('lanes', [1, 4])
def test_the_operations_of_a_step_are_counted_once(lanes):
  """Softmax of 4 examples: products forward and backward, of all lanes."""
  model = toys.softmax_model()
  weights = jax.eval_shape(
      model.init, jax.random.key(0), toys.softmax_data((1,)).examples['x'])
  inputs, classes = weights.params['w'].shape
  flops = job_size.step_flops(build(lanes).program.traced.jaxpr.jaxpr)
  once = 2 * (2 * 4 * inputs * classes)
  # Lanes narrow as clients finish: 4, 2 and 1 of them are loops each.
  assert flops == once * {1: 1, 4: 4 + 2 + 1}[lanes]
