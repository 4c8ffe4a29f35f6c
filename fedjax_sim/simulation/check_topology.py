"""Whether clients can talk to each other as an algorithm asks."""

from fedjax_sim.core.types import FederatedAlgorithm
from fedjax_sim.data.sampling import Sampler
from fedjax_sim.systems.timeline import Timeline


def check(
    algorithm: FederatedAlgorithm, num_clients: int, cohort_size: int,
    sampler: Sampler | None, is_timed: bool,
) -> None:
  """Raises a ValueError unless they can, and all that was asked for matters.

  Args:
    algorithm: whatever it is.
    num_clients: N.
    cohort_size: M.
    sampler: chooses the clients, None for all alike.
    is_timed: whether rounds take simulated time.
  """
  if algorithm.num_clients not in (None, num_clients):
    raise ValueError(
        f'algorithm is made for num_clients = {algorithm.num_clients}, the '
        f'federation has {num_clients}.')
  if algorithm.edges is not None and algorithm.edges.seconds and not is_timed:
    raise ValueError(
        'algorithm must not have cloud_seconds without systems, since rounds '
        f'take no time then, got {algorithm.edges.seconds}.')
  if algorithm.gossip is None:
    return
  algorithm.gossip.weights(num_clients)  # Raises if there is no such graph.
  if cohort_size != num_clients:
    raise ValueError(
        'client_fraction must be 1 where clients gossip, of whom all take part '
        f'in each round, got cohorts of {cohort_size} of {num_clients} '
        'clients.')
  if sampler is not None and sampler.prefers:
    raise ValueError(
        "sampler must be 'uniform' where clients gossip: all take part in each "
        'round, so there is nobody to prefer.')


def check_time(algorithm: FederatedAlgorithm, timeline: Timeline) -> None:
  """ValueError if clients may be lost that others wait for."""
  if algorithm.gossip is not None and timeline.may_lose:
    raise ValueError(
        'systems must not lose clients where they gossip, since each waits for '
        'its neighbours: leave out failures, available, over_selection, and '
        'a deadline that anybody may miss.')


def check_on_devices(algorithm: FederatedAlgorithm) -> None:
  """ValueError if clients' states, which are on disk, must not be."""
  if algorithm.gossip is not None:
    raise ValueError(
        "client_state must be 'device' where clients gossip, since their "
        "models are mixed in each round; 'auto' stores them on disk where they "
        'take much of the memory.')
