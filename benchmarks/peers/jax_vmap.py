"""Plain JAX: a round is one jitted function, local SGD vmapped over clients.

What one writes without a library: flax layers, `nn.Conv` as it comes, a
`lax.scan` over batches of a `vmap` over the clients of the cohort, and a mean.

Timed: the jitted rounds, one call each, until their result is there. In it:
shuffling, gathering the batches (the examples, scaled, are on the device),
local SGD, the average. Not timed: compiling, scaling the pixels.
"""

import functools
import time

import jax
import numpy as np
import optax
from flax import linen as nn
from jax import numpy as jnp
from jax.nn import initializers

from benchmarks.peers.link import Link, as_input

# Glorot-uniform weights, as ours.
_WEIGHTS = initializers.glorot_uniform()


class Dense(nn.Module):
  """The 2NN."""

  @nn.compact
  def __call__(self, x):
    x = x.reshape(x.shape[0], -1)
    for width in (200, 200):
      x = nn.relu(nn.Dense(width, kernel_init=_WEIGHTS)(x))
    return nn.Dense(10, kernel_init=_WEIGHTS)(x)


class Convolutional(nn.Module):
  """The CNN."""

  @nn.compact
  def __call__(self, x):
    for features in (32, 64):
      x = nn.Conv(features, (5, 5), kernel_init=_WEIGHTS)(x)
      x = nn.max_pool(nn.relu(x), (2, 2), (2, 2))
    x = nn.Dense(512, kernel_init=_WEIGHTS)(x.reshape(x.shape[0], -1))
    x = nn.relu(x)
    return nn.Dense(10, kernel_init=_WEIGHTS)(x)


class Recurrent(nn.Module):
  """The character LSTM: a logit for each next character."""

  @nn.compact
  def __call__(self, x):
    x = nn.Embed(258, 8, embedding_init=_WEIGHTS)(x)
    for _ in range(2):
      # As wide as one Glorot-uniform matrix of inputs, state and all gates.
      limit = (6 / (x.shape[-1] + 5 * 256)) ** 0.5
      weights = lambda key, shape, dtype, limit=limit: jax.random.uniform(
          key, shape, dtype, -limit, limit)
      x = nn.RNN(nn.OptimizedLSTMCell(
          256, kernel_init=weights, recurrent_kernel_init=weights))(x)
    return nn.Dense(258, kernel_init=_WEIGHTS)(x)


MODELS = {'2nn': Dense, 'cnn': Convolutional, 'lstm': Recurrent}


def build_round(model: nn.Module, task):
  """A jitted `(params, x [N, n, ...], y, cohort [M], key) -> params`."""
  def loss(params, x, y):
    losses = optax.softmax_cross_entropy_with_integer_labels(
        model.apply(params, x), y)
    return losses.mean()

  def client(params, x, y, key):
    orders = [jax.random.permutation(k, len(x))
              for k in jax.random.split(key, task.epochs)]
    batches = jnp.concatenate(orders).reshape(-1, task.batch_size)

    def step(params, batch):
      grads = jax.grad(loss)(params, x[batch], y[batch])
      return jax.tree.map(lambda p, g: p - task.rate * g, params, grads), None

    return jax.lax.scan(step, params, batches)[0]

  @functools.partial(jax.jit, donate_argnums=0)
  def federated_round(params, x, y, cohort, key):
    keys = jax.random.split(key, len(cohort))
    local = jax.vmap(client, (None, 0, 0, 0))(params, x[cohort], y[cohort],
                                              keys)
    weights = jnp.full(len(cohort), x.shape[1], jnp.float32)
    return jax.tree.map(
        lambda p: jnp.average(p, axis=0, weights=weights), local)

  return federated_round


def main() -> None:
  link = Link()
  jax.config.update('jax_default_matmul_precision', link.task.precision)
  model = MODELS[link.task.model]()
  key = jax.random.key(0)
  x, y = jnp.asarray(as_input(link.job.x)), jnp.asarray(link.job.y)
  params = jax.jit(model.init)(key, x[0, :1])
  lowered = build_round(model, link.task).lower(
      params, x, y, link.job.cohorts[0], key)
  with link.compiling():
    compiled = lowered.compile()
  apply = jax.jit(model.apply)
  link.ready(jax.devices()[0].device_kind, 'jax', 'jaxlib', 'flax')

  def train(cohorts):
    nonlocal params, key
    begun = time.perf_counter()
    for cohort in cohorts:
      key, round_key = jax.random.split(key)
      params = compiled(params, x, y, np.asarray(cohort), round_key)
    jax.block_until_ready(params)
    return time.perf_counter() - begun

  link.serve(train, lambda x: apply(params, as_input(x)))


if __name__ == '__main__':
  main()
