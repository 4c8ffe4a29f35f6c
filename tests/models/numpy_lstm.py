"""The LSTM layer step by step, in float64 NumPy."""

import numpy as np


def sigmoid(z):
  return 1 / (1 + np.exp(-z))


def lstm(x, input_kernel, recurrent_kernel, bias, peepholes, forget_bias=1.0):
  """[B, T, F] -> [B, T, H], as `recurrent.lstm`; peepholes is no None."""
  width = len(recurrent_kernel)
  h = c = np.zeros((len(x), width))
  outputs = []
  for t in range(x.shape[1]):
    z = x[:, t] @ input_kernel + h @ recurrent_kernel + bias
    z_i, z_f, z_g, z_o = (
        z[:, k * width:(k + 1) * width] for k in range(4))
    i = sigmoid(z_i + peepholes[0] * c)
    f = sigmoid(z_f + peepholes[1] * c + forget_bias)
    c = f * c + i * np.tanh(z_g)
    h = sigmoid(z_o + peepholes[2] * c) * np.tanh(c)
    outputs.append(h)
  return np.stack(outputs, axis=1)
