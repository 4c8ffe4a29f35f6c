"""What is compiled: a model's rounds with an algorithm on some clients."""

from typing import NamedTuple

import numpy as np
import optax

from benchmarks import cifar10
from fedjax_sim import algorithms, data, models


class Shape(NamedTuple):
  """A model and the shapes of what it is trained on.

  Attributes:
    build: makes the model.
    x: shape of an input.
    dtype: of it.
    y: shape of its label.
    examples: of the whole training set, which all clients share out.
    most: examples of a client.
  """

  build: callable
  x: tuple[int, ...]
  dtype: type
  y: tuple[int, ...]
  examples: int
  most: int


MODELS = {
    'mnist_2nn': Shape(
        models.mnist_2nn, (28, 28, 1), np.uint8, (), 60_000, 600),
    'mnist_cnn': Shape(
        models.mnist_cnn, (28, 28, 1), np.uint8, (), 60_000, 600),
    'cifar_cnn': Shape(
        models.cifar_cnn, (32, 32, 3), np.uint8, (), 50_000, 500),
    'shakespeare_lstm': Shape(
        models.shakespeare_lstm, (80,), np.int32, (80,), 40_000, 40),
    'word_lstm': Shape(
        models.word_lstm, (10,), np.int32, (10,), 50_000, 50),
    'pfl_cnn': Shape(
        lambda: models.from_linen(cifar10.Net()), (32, 32, 3), np.uint8, (),
        50_000, 50),
}

ALGORITHMS = {
    'fedavg': lambda model: algorithms.fedavg(
        model, optax.sgd(0.1), batch_size=10),
    'scaffold': lambda model: algorithms.scaffold(model, 0.1, batch_size=10),
    'mime': lambda model: algorithms.mime(
        model, optax.sgd(0.1), batch_size=10),
}


def federation(model: str, cohort: int, unequal: bool) -> data.FederatedData:
  """Clients with examples of zeros: only their shapes and numbers matter.

  Args:
    model: a name in MODELS.
    cohort: M; the federation has as many clients, but at least 100.
    unequal: whether clients have from 1 example to the most there can be.
  """
  shape = MODELS[model]
  clients = max(100, cohort)
  most = min(shape.most, shape.examples // clients)
  sizes = np.full(clients, most)
  if unequal:
    sizes = np.linspace(1, most, clients).astype(int)
  rows = lambda size: {'x': np.zeros((size, *shape.x), shape.dtype),
                       'y': np.zeros((size, *shape.y), np.int32)}
  return data.from_clients([rows(size) for size in sizes])


def test_set(model: str) -> dict[str, np.ndarray]:
  """2,000 examples: two batches of an evaluation."""
  shape = MODELS[model]
  return {'x': np.zeros((2000, *shape.x), shape.dtype),
          'y': np.zeros((2000, *shape.y), np.int32)}
