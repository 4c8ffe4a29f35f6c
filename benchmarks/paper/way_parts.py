"""What ways to compute a cell of the 2NN are made of.

Models, dealings of the data, cohorts, and clients that work in another way. All
are C = 0.1, E = 1, B = 10.
"""

import jax
import numpy as np
import optax
from flax import linen as nn
from jax import numpy as jnp
from jax.nn import initializers

from fedjax_sim import algorithms, models
from fedjax_sim.algorithms.fedavg import from_client_update
from fedjax_sim.clients.local_sgd import difference
from fedjax_sim.clients.local_training import local_training
from fedjax_sim.core import types
from fedjax_sim.data import partition, sampling
from fedjax_sim.models import adapters, losses

NUM_CLIENTS, COHORT, BATCH_SIZE = 100, 10, 10


class Net(nn.Module):
  """The 2NN with any initial weights and biases."""

  kernel_init: initializers.Initializer
  bias: float

  @nn.compact
  def __call__(self, x):
    x = x.reshape(x.shape[0], -1)
    for i, width in enumerate((200, 200, 10)):
      x = nn.Dense(width, kernel_init=self.kernel_init,
                   bias_init=initializers.constant(self.bias))(
                       nn.relu(x) if i else x)
    return x


def net(kernel_init=None, bias=0.0, preprocess=adapters.as_float):
  """A variant of the 2NN."""
  return models.from_linen(
      Net(kernel_init or initializers.glorot_uniform(), bias),
      loss=losses.cross_entropy, preprocess=preprocess)


def scaled(low: float, high: float):
  """Pixels from `low` to `high`."""
  return lambda x: low + (high - low) / 255 * x.astype(jnp.float32)


def iid(labels: np.ndarray, seed: int) -> partition.Partition:
  return partition.iid(labels, NUM_CLIENTS, seed=seed)


def shards(labels: np.ndarray, seed: int) -> partition.Partition:
  """Two random shards a client; a tenth of them have one digit."""
  return partition.shards(labels, NUM_CLIENTS, 2, seed=seed)


def two_digits(labels: np.ndarray, seed: int) -> partition.Partition:
  """Two shards of different digits a client: shards change hands until so."""
  parts = np.array(shards(labels, seed)).reshape(2 * NUM_CLIENTS, -1)
  rng = np.random.default_rng(seed)
  while True:
    digits = labels[parts[:, 0]]
    alike = 2 * np.flatnonzero(digits[::2] == digits[1::2])
    if not len(alike):
      break
    other = rng.integers(len(parts))
    parts[[alike[0], other]] = parts[[other, alike[0]]]
  return list(parts.reshape(NUM_CLIENTS, -1))


def mixed_once(labels: np.ndarray, seed: int) -> partition.Partition:
  """Each client's examples in a random order, drawn once."""
  rng = np.random.default_rng(seed)
  return [rng.permutation(part) for part in shards(labels, seed)]


def with_replacement(seed: int) -> sampling.Sampler:
  """A client may be in a cohort more than once."""
  return sampling.Sampler(
      lambda r: np.random.default_rng([seed, r]).integers(
          NUM_CLIENTS, size=COHORT).astype(np.int32), COHORT, NUM_CLIENTS)


def in_turn(seed: int) -> sampling.Sampler:
  """Ten fixed cohorts, one after the other."""
  order = np.random.default_rng(seed).permutation(NUM_CLIENTS)
  cohorts = order.astype(np.int32).reshape(-1, COHORT)
  return sampling.Sampler(
      lambda r: cohorts[r % len(cohorts)], COHORT, NUM_CLIENTS)


def plain(model: types.Model, rate: float) -> types.FederatedAlgorithm:
  return algorithms.fedavg(model, optax.sgd(rate), batch_size=BATCH_SIZE)


def decayed(factor: float):
  """The rate falls by a factor in each round."""
  return lambda model, rate: algorithms.fedavg(
      model, optax.sgd(rate), batch_size=BATCH_SIZE,
      client_schedule=lambda r: jnp.power(factor, r))


def ordered(batches_at_random: bool = False):
  """Batches are cut from the data as they are stored, not drawn anew.

  Args:
    batches_at_random: each round takes the batches in another order.
  """
  def make(model, rate):
    training = local_training(model, optax.sgd(rate), batch_size=BATCH_SIZE)

    def client(server, client_state, data, key):
      # All clients have 600 examples, so no batch is partial.
      turn = jnp.arange(data.max_size // BATCH_SIZE)
      if batches_at_random:
        turn = jax.random.permutation(key, turn)

      def change(gradient):
        return lambda variables, batch: gradient(variables, batch._replace(
            rows=data.offset + BATCH_SIZE * turn[batch.step] + jnp.arange(
                BATCH_SIZE)))

      local = training.run(server.variables, data, key, server.round,
                           change_gradient=change)
      message = difference(
          local.variables, server.variables, training.weight(data))
      return types.ClientOutput(message, client_state, local.metrics)

    return from_client_update(
        client, local_steps=training.planned_steps)

  return make


def sent_as(dtype):
  """Weights are rounded on their way to clients, and on the way back."""
  rounded = lambda tree: jax.tree.map(
      lambda x: x.astype(dtype).astype(x.dtype), tree)

  def make(model, rate):
    training = local_training(model, optax.sgd(rate), batch_size=BATCH_SIZE)

    def client(server, client_state, data, key):
      local = training.run(
          rounded(server.variables), data, key, server.round)
      message = difference(
          rounded(local.variables), server.variables, training.weight(data))
      return types.ClientOutput(message, client_state, local.metrics)

    return from_client_update(client, local_steps=training.planned_steps)

  return make
