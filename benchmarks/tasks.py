"""What speed.py has everybody do: FedAvg rounds of a model on a federation."""

import os
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fedjax_sim import data
from fedjax_sim.data import partition, sampling

# Rounds that there are cohorts for; more than anybody runs.
_MAX_ROUNDS = 2000
_SEED = 0


class Task(NamedTuple):
  """Rounds of FedAvg, and how they are measured.

  Attributes:
    name: of the task.
    title: heads its column of the table.
    model: '2nn', 'cnn' or 'lstm'; every worker has its own of that name.
    data: 'mnist' or 'text'.
    num_clients: N; 0 is as many as there are examples for.
    examples: of each client, a multiple of the batch size.
    clients: M, of a round.
    epochs: E.
    batch_size: B.
    rate: of SGD.
    check_rounds: after so many, none of them timed, the models are compared.
    measure: 'accuracy' or 'loss' (nats), on the test examples.
    band: how far from ours the measure of a valid contender may be: all have
      shuffles and initial weights of their own.
    turn: rounds that a contender runs before it is the next one's turn.
    repeats: turns of each contender.
    precision: of everybody's products, as fedjax_sim names it: 'highest' is
      float32, and all that a CPU has.
  """

  name: str
  title: str
  model: str
  data: str
  examples: int
  rate: float
  check_rounds: int
  band: float
  turn: int
  repeats: int
  measure: str = 'accuracy'
  num_clients: int = 0
  clients: int = 10
  epochs: int = 1
  batch_size: int = 10
  precision: str = 'highest'


TASKS = {task.name: task for task in (
    Task('mnist_2nn', 'MNIST 2NN', '2nn', 'mnist', examples=600, rate=0.1,
         check_rounds=10, band=0.02, turn=5, repeats=15),
    Task('mnist_cnn', 'MNIST CNN', 'cnn', 'mnist', examples=600, rate=0.1,
         check_rounds=3, band=0.02, turn=1, repeats=7),
    Task('char_lstm', 'character LSTM', 'lstm', 'text', examples=40, rate=0.5,
         num_clients=100, check_rounds=8, band=0.3, measure='loss', turn=1,
         repeats=7),
)}


def write_arrays(task: Task, path: Path | str) -> None:
  """Writes the .npz that all workers read: examples, test set, cohorts.

  Raises:
    ValueError: there are too few examples, or a batch would be partial.
  """
  if task.examples % task.batch_size:
    raise ValueError(
        f'examples = {task.examples} must be a multiple of batch_size = '
        f'{task.batch_size}: not all contenders have partial batches.')
  (x, y), (test_x, test_y) = {'mnist': mnist, 'text': text}[task.data]()
  num_clients = task.num_clients or len(x) // task.examples
  if num_clients * task.examples > len(x):
    raise ValueError(f'there are {len(x)} examples for {num_clients} clients '
                     f'of {task.examples}.')
  parts = partition.iid(len(x), num_clients, seed=_SEED)
  order = np.stack([part[:task.examples] for part in parts])
  sampler = sampling.uniform(num_clients, task.clients, _SEED)
  np.savez(
      path, x=x[order], y=y[order], test_x=test_x, test_y=test_y,
      cohorts=np.stack([sampler.sample(r) for r in range(_MAX_ROUNDS)]))


def mnist():
  """MNIST: ((uint8 [60000, 28, 28, 1], int32 [60000]), the same for test)."""
  dataset = data.load('mnist')
  return tuple((part['x'], part['y']) for part in (dataset.train, dataset.test))


def text(length: int = 80, num_test: int = 200):
  """Python's own help texts, cut into sequences.

  Returns:
    ((x, y), (test_x, test_y)), int32 [sequences, length] of bytes; y is x one
    character later.
  """
  from pydoc_data import topics
  letters = '\n'.join(topics.topics.values()).encode()
  letters = np.frombuffer(letters, np.uint8).astype(np.int32)
  rows = letters[:len(letters) // (length + 1) * (length + 1)]
  rows = np.random.default_rng(_SEED).permutation(rows.reshape(-1, length + 1))
  x, y = rows[:, :-1], rows[:, 1:]
  return ((x[num_test:], y[num_test:]), (x[:num_test], y[:num_test]))


def cores() -> int:
  """CPU cores that this process may use."""
  return len(os.sched_getaffinity(0))
