"""The tasks' models in PyTorch, and what its workers share."""

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from benchmarks.peers.link import Job, as_input


class Recurrent(nn.Module):
  """The character LSTM: a logit for each next character."""

  def __init__(self):
    super().__init__()
    self.embed = nn.Embedding(258, 8)
    self.lstm = nn.LSTM(8, 256, num_layers=2, batch_first=True)
    self.out = nn.Linear(256, 258)

  def forward(self, x):
    return self.out(self.lstm(self.embed(x))[0])


def dense() -> nn.Module:
  """The 2NN."""
  return nn.Sequential(
      nn.Flatten(), nn.Linear(784, 200), nn.ReLU(),
      nn.Linear(200, 200), nn.ReLU(), nn.Linear(200, 10))


def convolutional() -> nn.Module:
  """The CNN."""
  return nn.Sequential(
      nn.Conv2d(1, 32, 5, padding='same'), nn.ReLU(), nn.MaxPool2d(2),
      nn.Conv2d(32, 64, 5, padding='same'), nn.ReLU(), nn.MaxPool2d(2),
      nn.Flatten(), nn.Linear(64 * 7 * 7, 512), nn.ReLU(), nn.Linear(512, 10))


MODELS = {'2nn': dense, 'cnn': convolutional, 'lstm': Recurrent}


def build(name: str, models=MODELS) -> nn.Module:
  """A task's model on the device, its weights Glorot-uniform like ours."""
  torch.manual_seed(0)
  model = models[name]()
  for layer in model.modules():
    if isinstance(layer, nn.Linear | nn.Conv2d):
      nn.init.xavier_uniform_(layer.weight)
      if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    elif isinstance(layer, nn.Embedding):
      nn.init.xavier_uniform_(layer.weight)
    elif isinstance(layer, nn.LSTM):
      _like_tensorflow(layer)
  return model.to(device())


def _like_tensorflow(lstm: nn.LSTM) -> None:
  """One matrix of inputs and state, Glorot-uniform; forget gates start at 1."""
  width = lstm.hidden_size
  for name, weight in lstm.named_parameters():
    if name.startswith('weight'):
      inputs = getattr(lstm, name.replace('_hh_', '_ih_')).shape[1]
      limit = (6 / (inputs + width + 4 * width)) ** 0.5
      nn.init.uniform_(weight, -limit, limit)
    else:
      nn.init.zeros_(weight)
      if name.startswith('bias_ih'):
        nn.init.ones_(weight[width:2 * width])


def device() -> torch.device:
  """CUDA if there is one."""
  return torch.device('cuda' if torch.cuda.is_available() else 'cpu')


def device_name() -> str:
  """The device in words."""
  return (torch.cuda.get_device_name() if torch.cuda.is_available()
          else 'cpu')


def set_precision(precision: str) -> None:
  """Products, and convolutions, as the task's `precision` says."""
  torch.set_float32_matmul_precision({
      'highest': 'highest', 'tensorfloat32': 'high'}[precision])
  torch.backends.cudnn.allow_tf32 = precision == 'tensorfloat32'


def synchronize() -> None:
  """Waits for what was started on the device."""
  if torch.cuda.is_available():
    torch.cuda.synchronize()


def inputs(x: np.ndarray) -> torch.Tensor:
  """Inputs [..., h, w, 1] or tokens, as PyTorch wants them, on the device."""
  x = as_input(x)
  if x.ndim > 3 and x.shape[-1] == 1:
    x = np.moveaxis(x, -1, -3)
  return torch.from_numpy(np.ascontiguousarray(x)).to(device())


def examples(job: Job) -> tuple[torch.Tensor, torch.Tensor]:
  """All clients' examples: inputs [N, n, ...], int64 labels, on the device."""
  return inputs(job.x), torch.from_numpy(job.y.astype(np.int64)).to(device())


def mean_loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
  """Cross-entropy, averaged over all labels."""
  return functional.cross_entropy(logits.flatten(0, -2), labels.flatten())


def train_client(model, optimizer, x, y, *, epochs, batch_size) -> None:
  """Local SGD on examples x [n, ...], y [n, ...] that are on the device."""
  for _ in range(epochs):
    order = torch.randperm(len(x), device=x.device)
    batches = zip(x[order].split(batch_size), y[order].split(batch_size),
                  strict=True)
    for inputs_, labels in batches:
      optimizer.zero_grad(set_to_none=True)
      mean_loss(model(inputs_), labels).backward()
      optimizer.step()


def predictor(model: nn.Module):
  """`predict` for `Link`: the model as it then is."""
  def predict(x):
    with torch.no_grad():
      return model(inputs(x)).cpu().numpy()
  return predict
