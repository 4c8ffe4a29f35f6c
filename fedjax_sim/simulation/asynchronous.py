"""What can be asynchronous, and what must be."""

from fedjax_sim.core.types import FederatedAlgorithm
from fedjax_sim.simulation import in_time


def check(
    algorithm: FederatedAlgorithm, systems: in_time.Systems | None,
    reports: int,
) -> None:
  """ValueError if an algorithm does not fit the way in which reports come.

  Args:
    algorithm: the algorithm.
    systems: what makes rounds take time; None for nothing.
    reports: K, those of a server step.
  """
  wanted = algorithm.asynchronous
  rule = systems and systems.reporting.asynchrony
  if wanted is not None and not rule:
    raise ValueError(
        f'algorithm {wanted.name} is asynchronous: it needs systems, such as '
        'lognormal(), and reporting=asynchronous(concurrency=...), got rounds.')
  if not rule:
    return
  if wanted and wanted.reports not in (None, reports):
    raise ValueError(
        f'clients_per_round must be {wanted.reports} for {wanted.name}, which '
        f'takes so many reports in a step, got {reports}.')
  if algorithm.phases:
    raise ValueError(
        'algorithm must exchange one message with each client to be '
        'asynchronous, since a second one has to wait for a whole cohort, got '
        f'one with {len(algorithm.phases) + 1}, such as mime.')
  if algorithm.edges is not None or algorithm.gossip is not None:
    raise ValueError(
        'algorithm must have one server to be asynchronous, got one with '
        f'{"edges" if algorithm.gossip is None else "a graph of clients"}.')
