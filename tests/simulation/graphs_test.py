"""A GPU that doesn't take loops in graphs: seen by a program that fails."""

import warnings

import jax
import numpy as np
import pytest

from fedjax_sim import algorithms
from fedjax_sim.core import compilation
from fedjax_sim.data import sampling
from fedjax_sim.simulation import build as build_lib
from fedjax_sim.simulation import graphs
from fedjax_sim.simulation import program as program_lib
from fedjax_sim.simulation.drive import drive
from fedjax_sim.simulation.placement import device_memory
from fedjax_sim.simulation.placement.device_memory import Memory
from tests import toys

LOOPS = compilation.options('gpu', 'loops')


@pytest.fixture(autouse=True)
def compiled(monkeypatch):
  """Of each program that was compiled the options; devices call them GPUs."""
  options = []
  compile_really = program_lib._compiled

  def compile_it(traced, given):
    options.append(given)
    return compile_really(traced, {})

  monkeypatch.setattr(compilation, 'platform_of', lambda device: 'gpu')
  monkeypatch.setattr(program_lib, '_compiled', compile_it)
  monkeypatch.setattr(graphs, '_refused', [])
  monkeypatch.delenv(compilation.GRAPHS_VARIABLE, raising=False)
  return options


class Failing:
  """A program that runs, and then, with its state gone, has failed."""

  def __init__(self, program, message):
    self._program, self._message = program, message

  def memory_analysis(self):
    return self._program.memory_analysis()

  def __call__(self, *args):
    jax.block_until_ready(self._program(*args))
    raise jax.errors.JaxRuntimeError(self._message)


def fail(monkeypatch, message, while_compiling=False):
  """Programs with loops in graphs fail with a message."""
  compile_it = program_lib._compiled

  def compile_or_fail(traced, options):
    program = compile_it(traced, options)
    if options != LOOPS:
      return program
    if while_compiling:
      raise jax.errors.JaxRuntimeError(message)
    return Failing(program, message)

  monkeypatch.setattr(program_lib, '_compiled', compile_or_fail)


def build():
  model = toys.softmax_model()
  return build_lib.build(
      model, algorithms.scaffold(model, 0.1, batch_size=4),
      toys.softmax_data((6, 4, 5)), sampling.uniform(3, 2, seed=0))


def trained(simulation):
  *_, last = drive(simulation, simulation.init(), 3)
  return [np.asarray(x) for x in jax.tree.leaves(
      (last.state.server.variables, last.state.clients))]


def test_one_that_runs_is_kept_and_its_first_run_changes_nothing(
    compiled, monkeypatch):
  with warnings.catch_warnings():
    warnings.simplefilter('error')
    tried = build()
    values = trained(tried)
  assert tried.program.graphs == 'loops' and compiled == [LOOPS]
  monkeypatch.setenv(compilation.GRAPHS_VARIABLE, 'off')
  monkeypatch.setattr(type(tried), 'idle_arguments', None)  # It isn't called.
  for a, b in zip(values, trained(build()), strict=True):
    np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize('while_compiling', [True, False])
def test_one_that_fails_is_compiled_without_and_nothing_is_lost(
    compiled, monkeypatch, while_compiling):
  want = trained(build())
  compiled.clear()
  fail(monkeypatch, 'INTERNAL: no conditional nodes', while_compiling)
  simulation = build()
  with pytest.warns(UserWarning, match='loops in CUDA graphs.*no conditional '
                    'nodes.*FEDJAX_SIM_CUDA_GRAPHS=steps'):
    values = trained(simulation)
  assert simulation.program.graphs == 'steps'
  assert compiled == [LOOPS, {}]
  for a, b in zip(values, want, strict=True):
    np.testing.assert_array_equal(a, b)
  with warnings.catch_warnings():  # It is said, and tried, once.
    warnings.simplefilter('error')
    assert build().program.graphs == 'steps'
  assert compiled == [LOOPS, {}, {}]


def test_what_lacks_memory_was_not_refused(monkeypatch):
  fail(monkeypatch, 'RESOURCE_EXHAUSTED: out of memory')
  with warnings.catch_warnings():
    warnings.simplefilter('error')
    assert build().program.graphs == 'loops'


def test_what_does_not_fit_is_not_run(monkeypatch):
  fail(monkeypatch, 'INTERNAL: would be seen')
  monkeypatch.setattr(device_memory, 'needed', lambda *args: Memory(1e9, 2e9))
  monkeypatch.setattr(device_memory, 'available', lambda device: 2e9)
  with pytest.raises(ValueError, match='GB of memory with lanes'):
    _ = build().program.compiled


@pytest.mark.parametrize('value, options', [
    ('steps', {}), ('off', {'xla_gpu_enable_command_buffer': ''})])
def test_a_user_can_have_less(compiled, monkeypatch, value, options):
  fail(monkeypatch, 'INTERNAL: would be seen')
  monkeypatch.setenv(compilation.GRAPHS_VARIABLE, value)
  assert build().program.graphs == value
  assert compiled == [options]


def test_flags_of_xla_are_left_alone(compiled, monkeypatch):
  monkeypatch.setenv('XLA_FLAGS', '--xla_gpu_enable_command_buffer=FUSION')
  assert build().program.graphs == 'flags' and compiled == [{}]


def test_another_word_is_refused_on_every_platform(monkeypatch):
  """Before anything else is looked at."""
  monkeypatch.setenv(compilation.GRAPHS_VARIABLE, 'none')
  with pytest.raises(ValueError, match='FEDJAX_SIM_CUDA_GRAPHS must be one of '
                     "loops, off, steps, got 'none'"):
    build_lib.build(None, None, None, None)
