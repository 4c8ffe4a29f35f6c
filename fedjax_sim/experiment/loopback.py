"""Processes of one machine listen where no other machine reaches them."""

import ipaddress
import os

from jax._src import distributed, xla_bridge
from jax._src.lib import _jax


def is_local(coordinator: str) -> bool:
  """Whether host:port can be reached from this machine only."""
  host = coordinator.rpartition(':')[0].strip('[]')
  try:
    return host == 'localhost' or ipaddress.ip_address(host).is_loopback
  except ValueError:  # A name.
    return False


def stay(host: str) -> None:
  """Lets the processes' devices, too, listen at this address only.

  JAX has no option for it: on a CPU gloo listens at whatever the machine's name
  resolves to, on GPUs NCCL at the first network it finds.
  """
  def make_client():
    return xla_bridge.make_cpu_client(
        _jax.make_gloo_tcp_collectives(
            distributed_client=distributed.global_state.client,
            hostname=host.strip('[]')))

  xla_bridge.register_backend_factory(
      'cpu', make_client, priority=0, fail_quietly=False)
  os.environ['NCCL_SOCKET_IFNAME'] = 'lo'
