"""FedAvg on softmax regression in NumPy, sharing no code with the package.

Orders of examples are handed in, since random bits are not what it checks.
"""

import numpy as np


def softmax_gradients(w, b, x, y):
  """Gradients of the mean cross-entropy of x @ w + b."""
  scores = x @ w + b
  p = np.exp(scores - scores.max(1, keepdims=True))
  p /= p.sum(1, keepdims=True)
  p[np.arange(len(y)), y] -= 1
  return x.T @ p / len(y), p.mean(0)


def client_update(w, b, x, y, order_of_epoch, epochs, batch_size, lr):
  for epoch in range(epochs):
    order = order_of_epoch(epoch)
    for start in range(0, len(y), batch_size):
      rows = order[start:start + batch_size]
      dw, db = softmax_gradients(w, b, x[rows], y[rows])
      w, b = w - lr * dw, b - lr * db
  return w, b


def fedavg(
    w, b, clients, cohorts, order_of, *, epochs, batch_size, lr, weighting
):
  """Runs len(cohorts) rounds.

  Args:
    w: [d, K]. b: [K].
    clients: list of (x [n, d], y [n]).
    cohorts: a list of client numbers for each round.
    order_of: (round, client, epoch) -> permutation of 0 .. n - 1.
  """
  w, b = w.astype(np.float64), b.astype(np.float64)
  for t, cohort in enumerate(cohorts):
    total_w, total_b, total = np.zeros_like(w), np.zeros_like(b), 0.0
    for k in cohort:
      x, y = clients[k]
      new_w, new_b = client_update(
          w, b, x.astype(np.float64), y,
          lambda epoch, t=t, k=k: order_of(t, k, epoch), epochs, batch_size, lr)
      weight = len(y) if weighting == 'examples' else 1.0
      total_w += weight * new_w
      total_b += weight * new_b
      total += weight
    w, b = total_w / total, total_b / total
  return w, b
