"""How programs are compiled, and that they outlive a process."""

import jax

from fedjax_sim.core import files


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


def options() -> dict[str, bool]:
  """Compiler options for the rounds, on the default backend.

  On a CPU XLA copies weights that a step both reads and replaces, unless it is
  told to look whether the two overlap in time.
  """
  if jax.default_backend() == 'cpu':
    return {'xla_cpu_copy_insertion_use_region_analysis': True}
  return {}
