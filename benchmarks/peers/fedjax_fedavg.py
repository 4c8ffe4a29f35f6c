"""FedJAX 0.0.17: `fedjax.algorithms.fed_avg`, models in haiku.

As its documentation recommends for one device: `for_each_client` with the
'jit' backend, a jitted step called from Python for every batch.

Timed: `FederatedAlgorithm.apply` on the cohort, until the new parameters are
there. In it: shuffling and batching (NumPy), local SGD, the average, and the
norm of each client's update, which fed_avg always gives. Not timed: compiling,
scaling the pixels, building the clients' datasets.
"""

import time

import fedjax
import haiku as hk
import jax
import numpy as np
import optax
from jax import numpy as jnp

from benchmarks.peers.link import Link, as_input

# Glorot-uniform weights, as ours.
_WEIGHTS = hk.initializers.VarianceScaling(1.0, 'fan_avg', 'uniform')


def dense(batch):
  """The 2NN."""
  return hk.nets.MLP([200, 200, 10], w_init=_WEIGHTS)(hk.Flatten()(batch['x']))


def convolutional(batch):
  """The CNN."""
  x = batch['x']
  for features in (32, 64):
    x = jax.nn.relu(hk.Conv2D(features, 5, w_init=_WEIGHTS)(x))
    x = hk.MaxPool(2, 2, 'SAME')(x)
  x = jax.nn.relu(hk.Linear(512, w_init=_WEIGHTS)(hk.Flatten()(x)))
  return hk.Linear(10, w_init=_WEIGHTS)(x)


def recurrent(batch):
  """The character LSTM: a logit for each next character."""
  x = hk.Embed(258, 8)(batch['x'])
  for _ in range(2):
    core = hk.LSTM(256)
    x, _ = hk.dynamic_unroll(
        core, x, core.initial_state(x.shape[0]), time_major=False)
  return hk.Linear(258, w_init=_WEIGHTS)(x)


MODELS = {'2nn': dense, 'cnn': convolutional, 'lstm': recurrent}


def example_loss(batch, logits):
  """One value an example: the mean over what it predicts."""
  losses = optax.softmax_cross_entropy_with_integer_labels(logits, batch['y'])
  return losses.reshape(len(losses), -1).mean(axis=1)


def main() -> None:
  link = Link()
  task, inputs = link.task, as_input(link.job.x)
  jax.config.update('jax_default_matmul_precision', task.precision)
  clients = [fedjax.ClientDataset({'x': x, 'y': y})
             for x, y in zip(inputs, link.job.y, strict=True)]
  model = fedjax.create_model_from_haiku(
      hk.transform(MODELS[task.model]),
      {'x': inputs[0, :1], 'y': link.job.y[0, :1]}, example_loss)
  algorithm = fedjax.algorithms.fed_avg.federated_averaging(
      fedjax.model_grad(model), fedjax.optimizers.sgd(task.rate),
      fedjax.optimizers.sgd(1.0),
      fedjax.ShuffleRepeatBatchHParams(
          batch_size=task.batch_size, num_epochs=task.epochs))
  fedjax.set_for_each_client_backend('jit')
  state = algorithm.init(model.init(jax.random.PRNGKey(0)))
  key = jax.random.PRNGKey(1)
  link.ready(jax.devices()[0].device_kind, 'fedjax', 'jax', 'jaxlib',
             'dm-haiku')

  def train(cohorts):
    nonlocal state, key
    begun = time.perf_counter()
    for cohort in cohorts:
      key, *keys = jax.random.split(key, len(cohort) + 1)
      state, _ = algorithm.apply(
          state, [(str(c), clients[c], k)
                  for c, k in zip(cohort, keys, strict=True)])
    jax.block_until_ready(state.params)
    return time.perf_counter() - begun

  predict = lambda x: model.apply_for_eval(
      state.params, {'x': jnp.asarray(as_input(x))})
  link.serve(train, lambda x: np.asarray(predict(x)))


if __name__ == '__main__':
  main()
