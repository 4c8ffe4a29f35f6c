"""How programs are compiled, and that they outlive a process."""

import os

import jax

from fedjax_sim.core import files

# What becomes part of a CUDA graph: XLA's own choice, and the last two.
_IN_GRAPHS = ('FUSION', 'CUBLAS', 'CUBLASLT', 'CUSTOM_CALL', 'CUDNN',
              'DYNAMIC_SLICE_FUSION', 'CONDITIONAL', 'WHILE')


# Programs that compile faster are not kept, by JAX's own default.
_JAX_LEAST_SECONDS = 1.0


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


def options(graphs: bool | None = True) -> dict[str, bool | str]:
  """Compiler options for the rounds, on the default backend.

  On a CPU XLA copies weights that a step both reads and replaces, unless it is
  told to look whether the two overlap in time. On a GPU it puts single steps
  into CUDA graphs and drives the loops around them from the host; with loops
  and conditionals in the graphs as well, a whole window of rounds is one.

  Args:
    graphs: False leaves a GPU's loops to the host, None launches each kernel,
      which a profile needs to tell them apart.
  """
  if jax.default_backend() == 'cpu':
    return {'xla_cpu_copy_insertion_use_region_analysis': True}
  if jax.default_backend() == 'gpu' and graphs is None:
    return {'xla_gpu_enable_command_buffer': ''}
  if jax.default_backend() == 'gpu' and graphs:
    return {'xla_gpu_enable_command_buffer': ','.join(_IN_GRAPHS)}
  return {}
