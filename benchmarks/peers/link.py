"""The worker's end of speed.py: what to do comes in, seconds go out.

A worker is started with the path of a job file (JSON) and talks in JSON lines,
one answer to each command:

  (at the start)                        {"device": ..., "versions": {...}}
  {"do": "rounds", "count": 5}          {"seconds": a round's, their mean}
  {"do": "rounds", ..., "threads": 1}   the same, with so many CPU threads
  {"do": "rounds", ..., "trace": DIR}   the same, with a profile, where it can
  {"do": "evaluate"}                    {"accuracy": ..., "loss": ...}
  {"do": "stop"}                        none; the worker ends

Needs nothing but NumPy, as every contender's environment has it.

Letters: N clients, n examples each, M clients in a round's cohort, B batch.
"""

import contextlib
import fcntl
import json
import os
import sys
from collections.abc import Callable, Iterator
from importlib import metadata
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np

_EVAL_BATCH = 500


class Job(NamedTuple):
  """What a worker is to do.

  Attributes:
    path: of the job file.
    task: the fields of `tasks.Task`.
    cores: CPU cores to use.
    options: the contender's own options.
    x, y: uint8 or int32 [N, n, ...], the clients' examples; pixels are 0..255.
    test_x, test_y: the test examples.
    cohorts: int32 [R, M], the clients of each round.
  """

  path: str
  task: SimpleNamespace
  cores: int
  options: dict
  x: np.ndarray
  y: np.ndarray
  test_x: np.ndarray
  test_y: np.ndarray
  cohorts: np.ndarray


def read_job(path: str) -> Job:
  """Reads a job file and the arrays that it names."""
  with open(path) as file:
    job = json.load(file)
  with np.load(job.pop('data')) as arrays:
    return Job(path, SimpleNamespace(**job.pop('task')), **job, **arrays)


class Link:
  """The line to speed.py.

  Attributes:
    job: what to do.
    task: its task.
    set_threads: called with a number of threads where a command has one.
    trace: a folder for a profile of the rounds that are asked for, or None.
  """

  def __init__(self):
    # Libraries print; only what `_send` writes may reach the line.
    self._out = os.fdopen(os.dup(1), 'w')
    os.dup2(2, 1)
    self.job = read_job(sys.argv[1])
    self.task = self.job.task
    self.set_threads = lambda threads: None
    self.trace = None
    self._round = 0

  @contextlib.contextmanager
  def compiling(self) -> Iterator[None]:
    """Holds the job's `compile_lock`, if it names one.

    XLA times kernels on a GPU while it compiles, and should do that alone.
    """
    path = self.job.options.get('compile_lock')
    with open(path, 'w') if path else contextlib.nullcontext() as lock:
      if lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
      yield

  def ready(self, device: str, *packages: str, **more) -> None:
    """Tells that setting up is done, on which device, with which packages."""
    self._send(device=device, versions={
        name: metadata.version(name) for name in packages}, **more)

  def wait(self, predict: Callable[[np.ndarray], np.ndarray]):
    """Serves commands until rounds are asked for.

    Args:
      predict: test inputs [b, ...] -> logits [b, ..., classes].

    Returns:
      The cohorts int [count, M] of the rounds to run; None to end.
    """
    for line in iter(sys.stdin.readline, ''):
      command = json.loads(line)
      if command['do'] == 'evaluate':
        self._send(**evaluate(predict, self.job.test_x, self.job.test_y))
      elif command['do'] == 'rounds':
        if 'threads' in command:
          self.set_threads(command['threads'])
        self.trace = command.get('trace')
        begin, self._round = self._round, self._round + command['count']
        return self.job.cohorts[begin:self._round]
      else:
        break
    return None

  def answer(self, seconds: float) -> None:
    """Tells the mean time of a round, of those that `wait` asked for."""
    self._send(seconds=seconds)

  def serve(self, train: Callable, predict: Callable) -> None:
    """The whole conversation: `train(cohorts)` -> seconds of all the rounds."""
    while (cohorts := self.wait(predict)) is not None:
      self.answer(train(cohorts) / len(cohorts))

  def _send(self, **message) -> None:
    self._out.write(json.dumps(message) + '\n')
    self._out.flush()


def as_input(x: np.ndarray) -> np.ndarray:
  """Pixels as float32 in [0, 1]; tokens as they are."""
  return x.astype(np.float32) / 255 if x.dtype == np.uint8 else x


def evaluate(predict, x: np.ndarray, y: np.ndarray) -> dict[str, float]:
  """Accuracy and mean cross-entropy (nats) over all labels in `y`."""
  right = loss = 0.0
  for i in range(0, len(x), _EVAL_BATCH):
    labels = y[i:i + _EVAL_BATCH, ..., None]
    logits = np.asarray(predict(x[i:i + _EVAL_BATCH]), np.float64)
    logits = logits - logits.max(-1, keepdims=True)
    right += np.sum(logits.argmax(-1) == labels[..., 0])
    loss += np.sum(np.log(np.exp(logits).sum(-1))
                   - np.take_along_axis(logits, labels, -1)[..., 0])
  return {'accuracy': right / y.size, 'loss': loss / y.size}
