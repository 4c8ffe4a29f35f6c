"""For all tests: strict shapes, quick compiling, and nothing that is measured.

Most of the suite's time is XLA's, for toys that compute for milliseconds. The
flags below leave the program that XLA is given as it is, and halve the time it
takes to translate it; `--full-compiler` leaves them out. What has been
compiled is kept for the session, in a temporary folder. Processes that tests
start inherit both.
"""

import gc
import os
import tempfile

import jax
import pytest

from fedjax_sim.core import reuse
from fedjax_sim.simulation import autotune

_QUICK = ['--xla_backend_optimization_level=0',
          '--xla_cpu_parallel_codegen_split_count=1']
if jax.__version_info__ < (0, 11):  # A newer XLA ends at what it doesn't know.
  _QUICK.append('--xla_cpu_use_fusion_emitters=false')
_PROGRAMS = pytest.StashKey[tempfile.TemporaryDirectory]()


def pytest_addoption(parser):
  parser.addoption(
      '--full-compiler', action='store_true',
      help='compile as users do, with all optimizations')


def pytest_configure(config):
  # Programs use one of them unless told otherwise; idle ones cost nothing.
  jax.config.update('jax_num_cpu_devices', 8)
  in_worker = hasattr(config, 'workerinput')  # Which inherits the flags.
  if in_worker:
    return
  if not config.option.full_compiler:
    os.environ['XLA_FLAGS'] = ' '.join(
        [os.environ.get('XLA_FLAGS', ''), *_QUICK]).strip()
  if 'JAX_COMPILATION_CACHE_DIR' not in os.environ:
    config.stash[_PROGRAMS] = tempfile.TemporaryDirectory(prefix='programs-')
    _keep_programs(config.stash[_PROGRAMS].name)


def _keep_programs(folder):
  """Tests and processes that build the same toy compile it once."""
  for name, value in (('jax_compilation_cache_dir', folder),
                      ('jax_persistent_cache_min_compile_time_secs', 0.0)):
    os.environ[name.upper()] = str(value)
    jax.config.update(name, value)


def pytest_collection_finish():
  """What has been imported stays: no collection of garbage walks over it."""
  gc.collect()
  gc.freeze()
  gc.set_threshold(20_000, 20, 20)


def pytest_unconfigure(config):
  if _PROGRAMS in config.stash:
    config.stash[_PROGRAMS].cleanup()


@pytest.fixture(autouse=True)
def _rank_promotion_raises():
  with jax.numpy_rank_promotion('raise'):
    yield


@pytest.fixture(autouse=True)
def _programs_are_a_tests_own():
  """A test may change what the functions of a module-level model do."""
  yield
  reuse.forget()


@pytest.fixture(scope='session', autouse=True)
def _auto_is_one_device_and_two_lanes():
  """'auto' would measure: slow, and another answer on another day."""
  def choose(make, cohort_size, devices, lanes, *job):
    devices = 1 if devices == 'auto' else devices
    lanes = 2 if lanes == 'auto' else lanes
    return make(devices, min(lanes, -(-cohort_size // devices))), 'fixed'
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(autotune, 'choose', choose)
    yield
