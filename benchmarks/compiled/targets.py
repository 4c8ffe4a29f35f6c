"""The accelerators that rounds are compiled for, without having one.

XLA needs a description of the device, not the device. The TPU's compiler
(libtpu) has those of all TPUs; the GPU's is given one here, which is what JAX
writes about an H100 (`compiled.runtime_executable()` of a machine that has
one, and NVIDIA's data sheet).
"""

from typing import NamedTuple

from jax.experimental import topologies

_H100 = """
gpu_device_info {
  threads_per_block_limit: 1024
  threads_per_warp: 32
  shared_memory_per_block: 49152
  shared_memory_per_core: 233472
  threads_per_core_limit: 2048
  core_count: 132
  fpus_per_core: 128
  block_dim_limit_x: 2147483647
  block_dim_limit_y: 65535
  block_dim_limit_z: 65535
  memory_bandwidth: 3352320000000
  l2_cache_size: 52428800
  clock_rate_ghz: 1.98
  device_memory_size: 84929347584
  shared_memory_per_block_optin: 232448
  cuda_compute_capability { major: 9 minor: 0 }
  registers_per_core_limit: 65536
  registers_per_block_limit: 65536
  driver_version: "13.0.0"
  runtime_version: "13.0.0"
  compile_time_toolkit_version: "13.0.0"
}
platform_name: "CUDA"
dnn_version_info { major: 9 minor: 12 }
runtime_version { major: 13 minor: 0 }
device_description_str: "NVIDIA H100 80GB HBM3"
"""


class Target(NamedTuple):
  """An accelerator, and what its floor is computed with.

  Attributes:
    title: in tables.
    backend: what `jax.default_backend()` says on it.
    environment: the virtual environment that compiles for it.
    memory: bytes that a program may take, a tenth below what is built in.
    bandwidth: bytes a second, about nine tenths of the data sheet's.
    flops: a second, in matrix products of float32 weights as JAX computes them
      by default there; small products reach less.
    launch: seconds from one kernel's end to the next one's start.
  """

  title: str
  backend: str
  environment: str
  memory: int
  bandwidth: float
  flops: float
  launch: float


TARGETS = {
    'gpu': Target('H100', 'gpu', 'compiled_gpu', 76 * 10**9, 3.0e12, 150e12,
                  1.8e-6),
    'tpu': Target('TPU v5e', 'tpu', 'compiled_tpu', 15 * 10**9, 0.74e12,
                  150e12, 0.5e-6),
}


def devices(target: str, count: int) -> list:
  """Descriptions of so many devices, which programs are compiled for."""
  if target == 'tpu':
    topology = topologies.get_topology_desc(
        platform='tpu', topology_name='v5e:2x2')
  else:
    _know_cuda()
    topology = topologies.get_topology_desc(
        platform='cuda', topology_name='', target_config=_H100,
        topology=f'1x1x{count}')
  return topology.devices[:count]


def _know_cuda() -> None:
  """Without a GPU JAX doesn't know the platform's names."""
  from jax._src import xla_bridge  # There is no public way.
  known = xla_bridge.canonicalize_platform
  xla_bridge.canonicalize_platform = lambda platform: (
      'cuda' if platform in ('cuda', 'gpu') else known(platform))
