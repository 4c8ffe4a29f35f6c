"""A round's record, as the host keeps it, and what a bad round raises."""

from collections.abc import Mapping, Sequence

import jax
import numpy as np

from fedjax_sim.core import costs
from fedjax_sim.core.types import MetricSums
from fedjax_sim.simulation import evaluation
from fedjax_sim.simulation.exchange_types import Faults
from fedjax_sim.simulation.rounds import RoundOutputs

# None is a number that is not finite, once it has been in a file.
Record = dict[str, float | int | None]


# Clients that an error names.
_MOST_NAMED = 20
_CAUSES = (
    'Likely causes: the learning rate is too large (try a smaller client_lr, '
    'or clip gradients); half-precision overflows (try float32 or bfloat16); '
    'the loss has no finite value for some of these examples (a logarithm or '
    'root of 0, values that are finite but huge).')


class DivergenceError(ArithmeticError):
  """Something that a round computes became NaN or infinite.

  Attributes:
    round: the round in which it was seen, counted from 1.
    clients: the ids of the clients whose loss or update it is; empty where it
      is none of theirs, or not known (where the cohort trained as a whole).
    parts: client id -> 'loss', 'update' or 'loss and update'.
    sets: the evaluation sets that gave it, where the model is finite.
    records: of the dispatch before that round, good ones.
  """

  def __init__(
      self, round_number: int, parts: Mapping[str, str], sets: Sequence[str],
      records: list[Record], text: str,
  ):
    self.round, self.clients, self.parts = round_number, [*parts], dict(parts)
    self.sets, self.records = list(sets), records
    super().__init__(text)


def divergence(
    round_number: int, outputs: RoundOutputs, ids: np.ndarray,
    records: list[Record],
) -> DivergenceError:
  """What a bad round raises.

  Args:
    round_number: of the round, from 1.
    outputs: of this round, on the host.
    ids: str [D, blocks, W], the client in each slot.
    records: of the dispatch before it.
  """
  parts = _parts(outputs.faults, ids)
  sets = []
  if _is_finite(outputs.train) and outputs.finite:
    sets = [name for name, sums in outputs.test.items()
            if not _is_finite(sums)]
  if sets:
    text = (
        f'The evaluation on {" and ".join(map(repr, sets))} gave NaN or '
        f'infinity after round {round_number}, while the model and training '
        'were finite. Likely causes: examples of that set, or a loss or metric '
        'without a finite value for some of them.')
  elif parts:
    text = (f'NaN or infinity in round {round_number}: '
            f'{_clients_told(parts)}. {_CAUSES}')
  elif outputs.faults is None:
    text = (f'NaN or infinity in round {round_number}, in the loss or the '
            f'update of its cohort, which trained as a whole. {_CAUSES}')
  else:
    text = (
        f'The model became NaN or infinite in round {round_number}, while the '
        'losses and updates of all clients were finite. Likely causes: a large '
        'server_lr, the server optimizer, or what aggregation makes of the '
        'updates.')
  return DivergenceError(round_number, parts, sets, records, text)


def is_good(outputs: RoundOutputs) -> bool:
  """Whether one round left neither a NaN nor an infinity."""
  # A round in which nobody trained has no loss, and that is no divergence.
  return bool(outputs.finite) and _is_finite((outputs.train, outputs.test))


def _is_finite(sums) -> bool:
  return bool(np.all([np.all(np.isfinite(x)) for x in jax.tree.leaves(sums)]))


def _parts(faults: Faults | None, ids: np.ndarray) -> dict[str, str]:
  """Client id -> what of it was not finite."""
  if faults is None:
    return {}
  found = {}
  for client, loss, update in zip(
      ids.ravel(), np.ravel(faults.loss), np.ravel(faults.update), strict=True):
    if loss or update:
      before = found.get(client, (False, False))
      found[client] = (before[0] or loss, before[1] or update)
  return {client: ' and '.join(
      name for name, bad in zip(('loss', 'update'), parts, strict=True) if bad)
          for client, parts in sorted(
              found.items(), key=lambda item: (len(str(item[0])), item[0]))}


def _clients_told(parts: Mapping[str, str]) -> str:
  """Such as 'the loss of client 3, the update of clients 4, 7'."""
  said = []
  for part in ('loss', 'update', 'loss and update'):
    clients = [client for client, one in parts.items() if one == part]
    if clients:
      more = len(clients) - _MOST_NAMED
      named = ', '.join(map(str, clients[:_MOST_NAMED])) + (
          f' and {more} more' if more > 0 else '')
      said.append(f'the {part} of client{"s" * (len(clients) > 1)} {named}')
  return '; '.join(said)


def record(number: int, outputs: RoundOutputs, evaluated: bool) -> Record:
  """The record of one round: its number (from 1), means of metrics, clients.

  With `started` where messages may be lost, and the bytes that vary.
  """
  sets = {'train': outputs.train, **(outputs.test if evaluated else {})}
  return {
      'round': number,
      **{f'{name}/{metric}': value for name, sums in sets.items()
         for metric, value in evaluation.report(sums).items()},
      **{name: float(value) for name, value in outputs.aggregation.items()},
      'clients': int(outputs.count),
      **_traffic(outputs)}


def initial_record(sums: dict[str, MetricSums], seconds: float) -> Record:
  """The record of round 0: the model before it has been trained."""
  return {
      'round': 0,
      **{f'{name}/{metric}': value for name, own in sums.items()
         for metric, value in evaluation.report(own).items()},
      'clients': 0, 'bytes_up': 0.0, 'bytes_down': 0.0, 'seconds': seconds}


def _traffic(outputs: RoundOutputs) -> Record:
  """What only the program knows of who took part and of bytes."""
  fields = {}
  if outputs.started is not None:
    fields['started'] = int(outputs.started)
  if outputs.bits_up is not None:
    fields['bytes_up'] = costs.joined(outputs.bits_up) / 8
  if outputs.bits_down is not None:
    fields['bytes_down_each'] = costs.joined(outputs.bits_down) / 8
  return fields
