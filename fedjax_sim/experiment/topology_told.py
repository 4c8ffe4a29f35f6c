"""What a run tells people of who talks to whom: its header, its closing table.
"""

from collections.abc import Sequence

from fedjax_sim.core import mixing
from fedjax_sim.core.types import FederatedAlgorithm
from fedjax_sim.simulation.records import Record


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
  last = records[-1]
  if 'consensus/distance' not in last:
    return {}
  return {'spectral gap': f'{last["consensus/spectral_gap"]:.4g}',
          'distance from consensus': f'{last["consensus/distance"]:.4g} (last '
                                     'round)'}
