"""What tables 1 to 4 of the FedAvg paper say: 97 cells, 91 with a figure.

McMahan, Moore, Ramage, Hampson, Agüera y Arcas. Communication-Efficient
Learning of Deep Networks from Decentralized Data. AISTATS 2017,
arXiv:1602.05629.

A figure is a number of communication rounds (in the row of SGD, of minibatch
updates) until the best test accuracy so far reaches the target; None where it
was not reached in the time allowed. Letters: C, the fraction of clients in a
round (0 is one client); E, local epochs; B, local batch size, None for all of
a client's data.
"""

from collections.abc import Iterator
from typing import NamedTuple

TABLE1_FRACTIONS = (0.0, 0.1, 0.2, 0.5, 1.0)

# Model, partition, E, B; rounds at each of the fractions C above.
_TABLE1 = (
    ('mnist_2nn', 'iid', 1, None, (1455, 1474, 1658, None, None)),
    ('mnist_2nn', 'iid', 1, 10, (316, 87, 77, 75, 70)),
    ('mnist_2nn', 'noniid', 1, None, (4278, 1796, 1528, None, None)),
    ('mnist_2nn', 'noniid', 1, 10, (3275, 664, 619, 443, 380)),
    ('mnist_cnn', 'iid', 5, None, (387, 339, 337, 164, 246)),
    ('mnist_cnn', 'iid', 5, 10, (50, 18, 18, 18, 16)),
    ('mnist_cnn', 'noniid', 5, None, (1181, 1100, 978, 1067, None)),
    ('mnist_cnn', 'noniid', 5, 10, (956, 206, 200, 261, 97)),
)

# C = 0.1. Table, model, the two partitions; E, B, rounds on each of the two.
_TABLES_2_AND_4 = (
    (2, 'mnist_cnn', ('iid', 'noniid'), (
        (1, None, 626, 483),
        (5, None, 179, 1000),
        (1, 50, 65, 600),
        (20, None, 234, 672),
        (1, 10, 34, 350),
        (5, 50, 29, 334),
        (20, 50, 32, 426),
        (5, 10, 20, 229),
        (20, 10, 18, 173))),
    (2, 'shakespeare_lstm', ('iid', 'role'), (
        (1, None, 2488, 3906),
        (1, 50, 1635, 549),
        (5, None, 613, 597),
        (1, 10, 460, 164),
        (5, 50, 401, 152),
        (5, 10, 192, 41))),
    (4, 'mnist_2nn', ('iid', 'noniid'), (
        (1, None, 1468, 1817),
        (10, None, 156, 1100),
        (1, 50, 144, 1183),
        (20, None, 92, 957),
        (1, 10, 92, 831),
        (10, 50, 45, 881),
        (20, 50, 39, 835),
        (10, 10, 34, 497),
        (20, 10, 32, 738))),
)

# CIFAR-10. Algorithm, partition, C, E, B; rounds to 80%, 82% and 85%.
_TABLE3 = (
    ('sgd', 'central', 1.0, 1, 100, (18000, 31000, 99000)),
    ('fedsgd', 'iid', 0.1, 1, None, (3750, 6600, None)),
    ('fedavg', 'iid', 0.1, 5, 50, (280, 630, 2000)),
)


class Entry(NamedTuple):
  """A cell of a table; of table 3, a row.

  Attributes:
    table: 1 to 4.
    model, partition, algorithm: names.
    C, E, B: see above.
    rounds: a figure, or None, for each of the model's targets.
  """

  table: int
  model: str
  partition: str
  algorithm: str
  C: float
  E: int
  B: int | None
  rounds: tuple[int | None, ...]


def entries() -> Iterator[Entry]:
  """All of them, table by table, row by row as printed."""
  for model, partition, E, B, row in _TABLE1:
    for C, rounds in zip(TABLE1_FRACTIONS, row, strict=True):
      yield Entry(1, model, partition, algorithm(E, B), C, E, B, (rounds,))
  for table, model, partitions, rows in _TABLES_2_AND_4:
    for i, partition in enumerate(partitions):
      for E, B, *rounds in rows:
        yield Entry(table, model, partition, algorithm(E, B), 0.1, E, B,
                    (rounds[i],))
  for name, partition, C, E, B, rounds in _TABLE3:
    yield Entry(3, 'cifar_cnn', partition, name, C, E, B, rounds)


def algorithm(E: int, B: int | None) -> str:
  """One full gradient a round is FedSGD."""
  return 'fedsgd' if E == 1 and B is None else 'fedavg'
