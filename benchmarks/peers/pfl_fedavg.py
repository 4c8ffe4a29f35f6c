"""pfl-research: `FederatedAveraging` on `SimulatedBackend`, PyTorch models.

Timed: pfl's own central iterations, from the end of the callback of one to the
callback of the next. In it: sampling the cohort, local SGD (the fused
optimizer; pfl cuts a user's batches once and never shuffles them), weighting
by examples, the sum, the central SGD step. Not timed: scaling the pixels,
building the users' datasets; pfl's evaluations are off.
"""

import itertools
import time

import torch
from pfl.aggregate.simulate import SimulatedBackend
from pfl.aggregate.weighting import WeightByDatapoints
from pfl.algorithm.base import NNAlgorithmParams
from pfl.algorithm.federated_averaging import FederatedAveraging
from pfl.callback.base import TrainingProcessCallback
from pfl.data.federated_dataset import FederatedDataset
from pfl.data.pytorch import PyTorchTensorDataset
from pfl.hyperparam.base import NNTrainHyperParams
from pfl.metrics import Metrics
from pfl.model.pytorch import PyTorchModel

from benchmarks.peers import torch_models
from benchmarks.peers.link import Link

_FOREVER = 10**9


class Module(torch.nn.Module):
  """A task's model with the two methods that pfl asks for."""

  def __init__(self, name: str):
    super().__init__()
    self.model = torch_models.build(name)

  def forward(self, x):
    return self.model(x)

  def loss(self, x, y, **_):
    return torch_models.mean_loss(self.model(x), y)

  def metrics(self, x, y, **_):
    return {}


class Turns(TrainingProcessCallback):
  """Lets pfl's loop run while rounds are asked for, and times it."""

  def __init__(self, link: Link, predict):
    self._link, self._predict = link, predict
    self._count = self._left = 0
    self._begun = 0.0

  def on_train_begin(self, *, model):
    self._wait()
    return Metrics()

  def after_central_iteration(
      self, aggregate_metrics, model, *, central_iteration):
    self._left -= 1
    if self._left:
      return False, Metrics()
    torch_models.synchronize()
    self._link.answer((time.perf_counter() - self._begun) / self._count)
    return not self._wait(), Metrics()

  def _wait(self) -> bool:
    cohorts = self._link.wait(self._predict)
    self._count = self._left = 0 if cohorts is None else len(cohorts)
    self._begun = time.perf_counter()
    return self._count > 0


def dataset(link: Link) -> FederatedDataset:
  """The users, each prepared once, sampled in the order of the cohorts."""
  x, y = torch_models.examples(link.job)
  users = [PyTorchTensorDataset((x[i], y[i]), user_id=str(i))
           for i in range(len(x))]
  order = itertools.chain.from_iterable(link.job.cohorts)
  return FederatedDataset(users.__getitem__, lambda: int(next(order)))


def main() -> None:
  link = Link()
  task = link.task
  link.set_threads = torch.set_num_threads
  torch_models.set_precision(link.task.precision)
  module = Module(task.model)
  model = PyTorchModel(
      module,
      lambda parameters, lr: torch.optim.SGD(parameters, lr, fused=True),
      torch.optim.SGD(module.parameters(), 1.0))
  users = dataset(link)
  backend = SimulatedBackend(users, users, [WeightByDatapoints()])
  link.ready(torch_models.device_name(), 'pfl', 'torch')
  algorithm = FederatedAveraging()
  # Its first iteration, and so every `evaluation_frequency`-th, evaluates.
  algorithm._current_central_iteration = 1
  algorithm.run(
      NNAlgorithmParams(
          central_num_iterations=_FOREVER, evaluation_frequency=_FOREVER,
          train_cohort_size=task.clients, val_cohort_size=None),
      backend, model,
      NNTrainHyperParams(
          local_batch_size=task.batch_size, local_num_epochs=task.epochs,
          local_learning_rate=task.rate),
      callbacks=[Turns(link, torch_models.predictor(module))])


if __name__ == '__main__':
  main()
