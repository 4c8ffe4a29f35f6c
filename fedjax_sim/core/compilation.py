"""What programs are compiled for, how, and that they outlive a process."""

import contextlib
import os

import jax

from fedjax_sim.core import checks, files

# What a GPU runs as CUDA graphs: whole windows of rounds with their loops,
# single steps as XLA does by itself, nothing (each kernel is launched, which a
# profile needs to tell them apart), or what XLA_FLAGS say.
GRAPHS_VARIABLE = 'FEDJAX_SIM_CUDA_GRAPHS'
GRAPHS = ('loops', 'steps', 'off', 'flags')

# What becomes part of a graph: XLA's own choice, and the last two.
_GRAPHS_FLAG = 'xla_gpu_enable_command_buffer'
_IN_GRAPHS = ('FUSION', 'CUBLAS', 'CUBLASLT', 'CUSTOM_CALL', 'CUDNN',
              'DYNAMIC_SLICE_FUSION', 'CONDITIONAL', 'WHILE')


# What JAX names GPUs, by their makers.
_GPUS = ('cuda', 'rocm')

# JAX traces anew where it differs.
_target = jax.make_user_context(None)


# Programs that compile faster are not kept, by JAX's own default.
_JAX_LEAST_SECONDS = 1.0


def platform() -> str:
  """'cpu', 'gpu' or 'tpu': what is being traced is for.

  The platform of the devices that the program will run on, which need not be
  here (`target`). Outside of a program of ours it is JAX's default backend.
  """
  return _target.value or jax.default_backend()


def platform_of(device: jax.Device) -> str:
  """'cpu', 'gpu' or 'tpu'; also of a device to compile for that is not here."""
  return 'gpu' if device.platform in _GPUS else device.platform


def target(platform: str) -> contextlib.AbstractContextManager:
  """What is traced meanwhile is for this platform."""
  return _target(platform)


def keep_programs() -> None:
  """Keeps what this process compiles, in our cache folder, for the next one.

  JAX's persistent compilation cache, with its own checks of versions, device
  and options. What the user has set is left as it is: the folder
  (`JAX_COMPILATION_CACHE_DIR`), the least time that a program to be kept takes
  to compile (`JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS`), or that there is no
  such cache (`JAX_ENABLE_COMPILATION_CACHE=0`). A folder that can't be written
  to is done without.
  """
  if (jax.config.jax_compilation_cache_dir is not None
      or not jax.config.jax_enable_compilation_cache):
    return
  folder = files.cache_folder() / 'programs'
  try:
    folder.mkdir(parents=True, exist_ok=True)
  except OSError:
    return
  if not os.access(folder, os.W_OK):
    return
  jax.config.update('jax_compilation_cache_dir', str(folder))
  least = 'jax_persistent_cache_min_compile_time_secs'
  if getattr(jax.config, least) == _JAX_LEAST_SECONDS:
    # A run has twenty small programs, whose tenths of a second add up.
    jax.config.update(least, 0.0)


def graphs() -> str:
  """Which of `GRAPHS` a user wants: all, unless a variable says otherwise.

  Raises:
    ValueError: it has another value.
  """
  if _GRAPHS_FLAG in os.environ.get('XLA_FLAGS', ''):
    return 'flags'
  return checks.one_of(
      GRAPHS_VARIABLE, os.environ.get(GRAPHS_VARIABLE, 'loops'), GRAPHS[:3])


def options(
    platform: str | None = None, graphs: str = 'loops'
) -> dict[str, bool | str]:
  """Compiler options for the rounds.

  On a CPU XLA copies weights that a step both reads and replaces, unless it is
  told to look whether the two overlap in time. On a GPU it puts single steps
  into CUDA graphs and drives the loops around them from the host; with loops
  and conditionals in the graphs as well, a whole window of rounds is one.

  Args:
    platform: of the devices; None is JAX's default backend.
    graphs: of a GPU, one of `GRAPHS`.
  """
  platform = platform or jax.default_backend()
  if platform == 'cpu':
    return {'xla_cpu_copy_insertion_use_region_analysis': True}
  if platform == 'gpu' and graphs in ('loops', 'off'):
    return {_GRAPHS_FLAG: ','.join(_IN_GRAPHS) if graphs == 'loops' else ''}
  return {}
