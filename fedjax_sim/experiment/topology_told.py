"""What runs tell people of who talks to whom: in headers and tables."""

from collections.abc import Sequence

from fedjax_sim.core import mixing
from fedjax_sim.core.types import FederatedAlgorithm
from fedjax_sim.simulation.records import Record

_CONSENSUS = {'spectral gap': 'consensus/spectral_gap',
              'distance from consensus': 'consensus/distance'}


def header(algorithm: FederatedAlgorithm, num_clients: int) -> dict[str, str]:
  """Lines of the header; {} where each client talks to one server."""
  fields = {}
  if algorithm.edges is not None:
    one = algorithm.edges
    fields['edges'] = (
        f'{one.count}, which the cloud averages after every {one.every} rounds')
  if algorithm.gossip is not None:
    weights = algorithm.gossip.weights(num_clients)
    fields['graph'] = (
        f'{algorithm.gossip.name} of {num_clients} clients, '
        f'{mixing.links(weights).sum():,} models sent a round, spectral gap '
        f'{mixing.spectral_gap(weights):.4g}')
  return fields


def closing(records: Sequence[Record]) -> dict[str, str]:
  """Lines of the closing table, from the records of trained models."""
  return {name: text for name, (text,) in columns(records[-1:]).items()}


def columns(last: Sequence[Record]) -> dict[str, list[str]]:
  """Columns of a sweep's table, from the last record of each run."""
  found = {}
  for name, field in _CONSENSUS.items():
    known = [one.get(field) for one in last]
    if any(value is not None for value in known):
      found[name] = ['-' if x is None else f'{x:.4g}' for x in known]
  return found
