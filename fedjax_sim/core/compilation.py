"""How programs are compiled, and that they outlive a process."""

import jax

from fedjax_sim.core import files

# What becomes part of a CUDA graph: XLA's own choice, and the last two.
_IN_GRAPHS = ('FUSION', 'CUBLAS', 'CUBLASLT', 'CUSTOM_CALL', 'CUDNN',
              'DYNAMIC_SLICE_FUSION', 'CONDITIONAL', 'WHILE')


def keep_programs() -> None:
  """Keeps what this process compiles, in our cache folder, for the next one.

  JAX's persistent compilation cache, with its own checks of versions, device
  and options. A folder that the user has set (`JAX_COMPILATION_CACHE_DIR`) is
  left as it is.
  """
  if jax.config.jax_compilation_cache_dir is None:
    jax.config.update('jax_compilation_cache_dir',
                      str(files.cache_folder() / 'programs'))
    # Programs that compile at once are not worth a file.
    jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.5)


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
