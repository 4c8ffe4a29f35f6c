"""A round's row of metrics, as the host keeps it, and what a bad one raises."""

import jax
import numpy as np

from fedjax_sim.simulation import evaluation
from fedjax_sim.simulation.engine import RoundOutputs

Row = dict[str, float | int]


class DivergenceError(ArithmeticError):
  """The loss or the model became NaN or infinite.

  Attributes:
    round: the round after which it was seen, counted from 1.
    clients: the client ids of that round's cohort.
    rows: rows of the dispatch before that round, good ones.
  """

  def __init__(self, round_number: int, clients: list[str], rows: list[Row]):
    self.round, self.clients, self.rows = round_number, clients, rows
    super().__init__(
        f'The loss or the model became NaN or infinite in round {round_number},'
        f' with clients {", ".join(clients)}. A smaller client_lr, or gradient '
        'clipping, is the usual cure.')


def is_good(outputs: RoundOutputs) -> bool:
  """Whether one round left neither a NaN nor an infinity."""
  # A round in which nobody trained has no loss, and that is no divergence.
  sums = jax.tree.leaves((outputs.train, outputs.test))
  return bool(outputs.finite and np.all(np.isfinite(sums)))


def row(number: int, outputs: RoundOutputs, evaluated: bool) -> Row:
  """The row of one round: its number (from 1), means of metrics, clients."""
  test = evaluation.report(outputs.test) if evaluated else {}
  return {
      'round': number,
      **{f'train/{name}': value
         for name, value in evaluation.report(outputs.train).items()},
      **{f'test/{name}': value for name, value in test.items()},
      'clients': int(outputs.count)}
