"""The cells: every setting that a table or a figure of the paper needs.

A setting that two tables print is one cell with two published figures; the
three targets of a row of table 3 are one run, so one cell too.

Letters: K clients, n examples in all, C, E, B as in `published`.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from benchmarks.paper import published

# One round of our centralized SGD is so many minibatch updates, after which it
# is evaluated; table 3 counts updates.
SGD_STEPS_PER_ROUND = 100
# The word LSTM runs on messages by author, of which there are fewer than the
# 500,000 that the paper drew 200 a round from.
WORD_COHORT = 50
# After every round it is evaluated on these many drawn test examples.
WORD_TEST_EXAMPLES = 5_000
# Rounds that a cell is thought to need where the paper has no figure.
_ROUNDS_WITHOUT_FIGURE = 2000


class Task(NamedTuple):
  """What a model is trained on.

  Attributes:
    title: of the model.
    dataset: field of the config.
    clients: K; None where it depends on the data at hand.
    examples: n / K, a client's examples on average. For Shakespeare what the
      paper's u = 37.1 at E = 5, B = 10 stands for; 200 is a guess.
    flops: floating-point operations of a training step for one example, taken
      as 6 times the multiplications of a forward pass.
    targets: test accuracies.
  """

  title: str
  dataset: str
  clients: int | None
  examples: float
  flops: float
  targets: tuple[float, ...]


TASKS = {
    'mnist_2nn': Task('MNIST 2NN', 'mnist', 100, 600, 6 * 199_210, (0.97,)),
    # 28 x 28 x 5 x 5 x 32, 14 x 14 x 5 x 5 x 32 x 64, two dense layers.
    'mnist_cnn': Task(
        'MNIST CNN', 'mnist', 100, 600, 6 * 12_273_152, (0.99,)),
    # 80 characters: two LSTMs of 256 and a softmax over 258.
    'shakespeare_lstm': Task(
        'Shakespeare LSTM', 'shakespeare', 1146, 74.2, 6 * 80 * 860_672,
        (0.54,)),
    # 24 x 24 x 5 x 5 x 3 x 64, 12 x 12 x 5 x 5 x 64 x 64, three dense layers.
    'cifar_cnn': Task(
        'CIFAR-10 CNN', 'cifar10', 100, 500, 6 * 18_470_784,
        (0.8, 0.82, 0.85)),
    # 10 words: an LSTM of 256 on 192 and a softmax over 10,000.
    'word_lstm': Task(
        'word LSTM', 'messages', None, 200, 6 * 10 * 3_018_752, (0.105, 0.15)),
}
PARTITIONS = {'iid': 'IID', 'noniid': 'non-IID', 'role': 'by role',
              'author': 'by author', 'central': 'central'}


class Cell(NamedTuple):
  """A setting to be computed.

  Attributes:
    model: a key of `TASKS`.
    partition: a key of `PARTITIONS`; 'noniid' is two label shards a client,
      'central' no clients at all.
    algorithm: 'fedavg', 'fedsgd' or 'sgd'.
    C: the fraction of clients in a round, 0 for one client; None where their
      number is `WORD_COHORT`.
    E: local epochs.
    B: local batch size; None for all of a client's data.
    targets: test accuracies, as in the tables.
    published: table -> a figure for each target, None where it was not
      reached. A cell that only figures need has none.
    pixels: 'zero_to_one', or 'centered' from -0.5 to 0.5; the paper doesn't
      say how it had them.
  """

  model: str
  partition: str
  algorithm: str
  C: float | None
  E: int
  B: int | None
  targets: tuple[float, ...]
  published: Mapping[int, tuple[int | None, ...]]
  pixels: str = 'zero_to_one'

  @property
  def label(self) -> str:
    """Such as C0.1/E1/B10; M for a number of clients, not a fraction."""
    return f'{self.cohort_label}/E{self.E}/{self.batch_label}'

  @property
  def key(self) -> str:
    """Unique, and the same for good: the store is read by it."""
    pixels = '' if self.pixels == 'zero_to_one' else f'/{self.pixels}'
    return f'{self.model}/{self.partition}/{self.label}{pixels}'

  @property
  def cohort_label(self) -> str:
    return f'M{WORD_COHORT}' if self.C is None else f'C{self.C:g}'

  @property
  def batch_label(self) -> str:
    return 'Binf' if self.B is None else f'B{self.B}'

  @property
  def u(self) -> float:
    """Local updates of a client in a round, E n / (K B) on average."""
    if self.algorithm == 'sgd':
      return float(SGD_STEPS_PER_ROUND)
    if self.B is None:
      return float(self.E)
    return self.E * TASKS[self.model].examples / self.B

  @property
  def cohort(self) -> int:
    """M, the clients in a round."""
    if self.algorithm == 'sgd':
      return 1
    if self.C is None:
      return WORD_COHORT
    return max(int(round(self.C * TASKS[self.model].clients, 6)), 1)

  @property
  def unit(self) -> int:
    """What one round of a run counts for in the tables."""
    return SGD_STEPS_PER_ROUND if self.algorithm == 'sgd' else 1

  @property
  def cost(self) -> float:
    """A guess at the floating-point operations of one run, for sorting."""
    known = [r for figures in self.published.values() for r in figures if r]
    rounds = max(known, default=_ROUNDS_WITHOUT_FIGURE) / self.unit
    batch = TASKS[self.model].examples if self.B is None else self.B
    return self.cohort * self.u * batch * TASKS[self.model].flops * rounds


# Neither the paper's text nor its tables say which E figures 3 and 8 have; to
# the ones that the tables have these are added, at C = 0.1, B = 10.
_LARGE_E = (('shakespeare_lstm', 'iid', 25), ('shakespeare_lstm', 'iid', 100),
            ('shakespeare_lstm', 'role', 25), ('shakespeare_lstm', 'role', 100),
            ('mnist_cnn', 'iid', 100), ('mnist_cnn', 'noniid', 100))
# Figures 5 and 10: E, B.
_WORD_LSTM = ((1, None), (1, 8), (5, 8))


def _cells() -> tuple[Cell, ...]:
  found = {}

  def add(model, partition, algorithm, C, E, B, figures):
    cell = Cell(model, partition, algorithm, C, E, B, TASKS[model].targets, {})
    found.setdefault(cell.key, cell).published.update(figures)

  for entry in published.entries():
    add(*entry[1:-1], {entry.table: entry.rounds})
  for model, partition, E in _LARGE_E:
    add(model, partition, 'fedavg', 0.1, E, 10, {})
  for E, B in _WORD_LSTM:
    add('word_lstm', 'author', published.algorithm(E, B), None, E, B, {})
  return tuple(found.values())


CELLS = _cells()
BY_KEY = {cell.key: cell for cell in CELLS}


def select(
    table: int | None = None,
    model: str | None = None,
    partition: str | None = None,
    cell: str | None = None,
) -> list[Cell]:
  """The cells that fit, in the order of the tables; None fits all.

  Args:
    table: 1 to 4.
    model: such as mnist_2nn.
    partition: such as noniid.
    cell: such as E5B10, E1Binf or C0.2E1B10; a part left out fits all.

  Raises:
    ValueError: nothing fits; says what there is.
  """
  chosen = list(CELLS)
  chosen = _filter(chosen, 'table', table, lambda c: tuple(c.published))
  chosen = _filter(chosen, 'model', model, lambda c: (c.model,))
  chosen = _filter(chosen, 'partition', partition, lambda c: (c.partition,))
  return _filter(chosen, 'cell', cell, _spellings)


def _filter(cells: list[Cell], name: str, wanted: Any, values) -> list[Cell]:
  """Those among whose `values(cell)` is the wanted one."""
  if wanted is None:
    return cells
  kept = [cell for cell in cells if wanted in values(cell)]
  if not kept:
    valid = sorted({value for cell in cells for value in values(cell)})
    raise ValueError(f'{name} must be one of {", ".join(map(str, valid))}, '
                     f'got {wanted!r}.')
  return kept


def _spellings(cell: Cell) -> tuple[str, ...]:
  """E5B10, C0.1E5B10, and each part alone."""
  C, E, B = cell.label.split('/')
  return (E + B, C + E + B, C, E, B)


def centered(cells: Sequence[Cell]) -> list[Cell]:
  """The same cells with pixels from -0.5 to 0.5, where pixels are MNIST's."""
  return [cell._replace(pixels='centered') for cell in cells
          if TASKS[cell.model].dataset == 'mnist']


def config_overrides(cell: Cell) -> dict[str, Any]:
  """The fields of configs/default.py that make a config of a cell.

  Not the learning rate, the rounds and the seed: those are the runner's.
  """
  task = TASKS[cell.model]
  natural = cell.partition in ('role', 'author')
  plain = cell.pixels == 'zero_to_one'
  fields = {
      'dataset': task.dataset,
      'model': cell.model if plain else (
          f'{cell.model}(preprocess={cell.pixels})'),
      'partition': {'noniid': 'shards(2)'}.get(
          cell.partition, 'natural' if natural else 'iid'),
      'num_clients': 0 if natural else task.clients,
      'algorithm': cell.algorithm,
      'local_epochs': cell.E,
      'full_batch': cell.B is None,
      'targets': cell.targets,
  }
  if cell.B is not None:
    fields['batch_size'] = cell.B
  if cell.algorithm == 'sgd':
    return fields | {
        'algorithm': f'centralized_sgd(steps_per_round={SGD_STEPS_PER_ROUND})',
        'num_clients': 1, 'client_fraction': 1.0}
  if cell.model == 'cifar_cnn':
    fields['client_lr_decay'] = {'fedavg': 0.99, 'fedsgd': 0.9934}[
        cell.algorithm]
  if cell.C is None:
    return fields | {'clients_per_round': WORD_COHORT,
                     'test_examples': WORD_TEST_EXAMPLES}
  return fields | {'client_fraction': cell.C}
