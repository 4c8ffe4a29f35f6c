"""The cases of the table in docs/scaling.md, the most important ones first."""

from typing import NamedTuple

MODELS = ('mnist_2nn', 'mnist_cnn', 'shakespeare_lstm', 'pfl_cnn', 'word_lstm',
          'cifar_cnn')


class Case(NamedTuple):
  """What is compiled; `deviceless.build` takes these fields.

  Attributes:
    target: a name in `targets.TARGETS`.
    model: a name in `cases.MODELS`.
    algorithm: a name in `cases.ALGORITHMS`.
    clients: M.
    devices: D.
    unequal: whether clients have different numbers of examples.
    lanes: W of each device; 'auto' is what the package takes, all clients of a
      round where the memory holds them.
  """

  target: str
  model: str
  algorithm: str = 'fedavg'
  clients: int = 10
  devices: int = 1
  unequal: bool = False
  lanes: int | str = 'auto'

  @property
  def name(self) -> str:
    """A name for its folder."""
    kind = 'unequal' if self.unequal else 'equal'
    return (f'{self.target}-{self.model}-{self.algorithm}-{self.clients}-'
            f'{self.devices}-{kind}-{self.lanes}')


def cases() -> list[Case]:
  """All of them: first one of each kind, then the rest."""
  first = [
      Case('gpu', 'mnist_2nn'),
      Case('gpu', 'mnist_2nn', devices=4),
      Case('gpu', 'mnist_2nn', 'scaffold', devices=4),
      Case('gpu', 'mnist_2nn', unequal=True),
      Case('tpu', 'mnist_2nn'),
      Case('tpu', 'mnist_2nn', unequal=True),
      Case('gpu', 'mnist_cnn'),
      Case('gpu', 'shakespeare_lstm'),
      Case('tpu', 'mnist_2nn', devices=4),
      Case('gpu', 'mnist_2nn', 'mime', devices=4),
      Case('gpu', 'mnist_2nn', clients=100),
      Case('gpu', 'mnist_2nn', clients=1000),
      Case('tpu', 'mnist_cnn'),
      Case('gpu', 'pfl_cnn'),
      Case('gpu', 'mnist_cnn', clients=100),
      Case('gpu', 'mnist_cnn', unequal=True),
      Case('gpu', 'word_lstm'),
      Case('gpu', 'cifar_cnn'),
      Case('gpu', 'mnist_2nn', clients=100, unequal=True),
  ]
  rest = [
      Case(target, model, 'fedavg', clients, devices, unequal)
      for clients in (10, 100, 1000) for devices in (1, 4)
      for model in MODELS for target in ('gpu', 'tpu')
      for unequal in (False, True)]
  rest += [Case('tpu', 'mnist_2nn', algorithm, devices=4)
           for algorithm in ('scaffold', 'mime')]
  return list(dict.fromkeys(first + rest))
