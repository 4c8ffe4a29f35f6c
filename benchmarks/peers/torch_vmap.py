"""PyTorch's `torch.func`: `vmap(grad)` over the clients of the cohort.

Timed: stacking the parameters, shuffling, and for every batch one gather (the
examples, scaled, are tensors on the device), one vmapped gradient of all
clients and one SGD step in place; then the mean. Not timed: scaling the
pixels. `nn.LSTM` can't be vmapped, so its layers are written out, step by
step in time.
"""

import time

import torch
from torch import nn
from torch.func import functional_call, grad, vmap

from benchmarks.peers import torch_models
from benchmarks.peers.link import Link


class Layer(nn.Module):
  """An LSTM layer of plain operations, [B, T, inputs] -> [B, T, units]."""

  def __init__(self, num_inputs: int, units: int):
    super().__init__()
    self.input = nn.Linear(num_inputs, 4 * units)
    self.hidden = nn.Linear(units, 4 * units, bias=False)

  def forward(self, x):
    gates = self.input(x)
    h = c = torch.zeros_like(gates[:, 0, :self.hidden.in_features])
    outputs = []
    for now in gates.unbind(1):
      i, f, g, o = (now + self.hidden(h)).chunk(4, -1)
      c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
      h = torch.sigmoid(o) * torch.tanh(c)
      outputs.append(h)
    return torch.stack(outputs, 1)


def recurrent() -> nn.Module:
  """The character LSTM."""
  return nn.Sequential(nn.Embedding(258, 8), Layer(8, 256), Layer(256, 256),
                       nn.Linear(256, 258))


MODELS = torch_models.MODELS | {'lstm': recurrent}


def main() -> None:
  link = Link()
  task = link.task
  link.set_threads = torch.set_num_threads
  torch_models.set_precision(link.task.precision)
  model = torch_models.build(task.model, MODELS)
  x, y = torch_models.examples(link.job)
  loss = lambda params, x, y: torch_models.mean_loss(
      functional_call(model, params, x), y)
  gradient = vmap(grad(loss))
  link.ready(torch_models.device_name(), 'torch')

  @torch.no_grad()
  def federated_round(cohort):
    rows = torch.from_numpy(cohort).long().to(x.device)[:, None]
    params = {name: p.expand(len(cohort), *p.shape).clone()
              for name, p in model.named_parameters()}
    for _ in range(task.epochs):
      orders = torch.rand(len(cohort), x.shape[1], device=x.device).argsort(1)
      for batch in orders.split(task.batch_size, dim=1):
        grads = gradient(params, x[rows, batch], y[rows, batch])
        for name, p in params.items():
          p.sub_(grads[name], alpha=task.rate)
    for name, p in model.named_parameters():
      p.copy_(params[name].mean(0))

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
