"""A round's record, as the host keeps it, and what a bad round raises."""

import jax
import numpy as np

from fedjax_sim.core.types import MetricSums
from fedjax_sim.simulation import evaluation
from fedjax_sim.simulation.rounds import RoundOutputs

# None is a number that is not finite, once it has been in a file.
Record = dict[str, float | int | None]


class DivergenceError(ArithmeticError):
  """The loss or the model became NaN or infinite.

  Attributes:
    round: the round after which it was seen, counted from 1.
    clients: the client ids of that round's cohort.
    records: of the dispatch before that round, good ones.
  """

  def __init__(
      self, round_number: int, clients: list[str], records: list[Record]):
    self.round, self.clients, self.records = round_number, clients, records
    super().__init__(
        f'The loss or the model became NaN or infinite in round {round_number},'
        f' with clients {", ".join(clients)}. A smaller client_lr, or gradient '
        'clipping, is the usual cure.')


def is_good(outputs: RoundOutputs) -> bool:
  """Whether one round left neither a NaN nor an infinity."""
  # A round in which nobody trained has no loss, and that is no divergence.
  sums = jax.tree.leaves((outputs.train, outputs.test))
  return bool(outputs.finite and np.all(np.isfinite(sums)))


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
  started = outputs.count if outputs.started is None else outputs.started
  if outputs.started is not None:
    fields['started'] = int(started)
  if outputs.bits_up is not None:
    fields['bytes_up'] = float(outputs.bits_up) / 8
  if outputs.bits_down is not None:
    fields['bytes_down'] = float(outputs.bits_down) / 8 * int(started)
  return fields
