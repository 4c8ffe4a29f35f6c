"""Plain PyTorch: a loop over the clients, an inner loop over the batches.

Timed: copying the global parameters into the one model, shuffling (one gather
a client and epoch; the examples, scaled, are tensors on the device, and there
is no DataLoader), local SGD with the fused optimizer and gradients set to
None, and the weighted sum of the parameters. Not timed: scaling the pixels.
"""

import time

import torch

from benchmarks.peers import torch_models
from benchmarks.peers.link import Link


def main() -> None:
  link = Link()
  task = link.task
  link.set_threads = torch.set_num_threads
  torch_models.set_precision(link.task.precision)
  model = torch_models.build(task.model)
  x, y = torch_models.examples(link.job)
  optimizer = torch.optim.SGD(model.parameters(), lr=task.rate, fused=True)
  link.ready(torch_models.device_name(), 'torch')

  def federated_round(cohort):
    server = [p.detach().clone() for p in model.parameters()]
    mean = [torch.zeros_like(p) for p in server]
    weight = 1 / len(cohort)  # All clients have as many examples.
    for client in cohort:
      with torch.no_grad():
        torch._foreach_copy_(list(model.parameters()), server)
      torch_models.train_client(
          model, optimizer, x[client], y[client], epochs=task.epochs,
          batch_size=task.batch_size)
      with torch.no_grad():
        torch._foreach_add_(mean, list(model.parameters()), alpha=weight)
    with torch.no_grad():
      torch._foreach_copy_(list(model.parameters()), mean)

  def train(cohorts):
    torch_models.synchronize()
    begun = time.perf_counter()
    for cohort in cohorts:
      federated_round(cohort)
    torch_models.synchronize()
    return time.perf_counter() - begun

  link.serve(train, torch_models.predictor(model))


if __name__ == '__main__':
  main()
