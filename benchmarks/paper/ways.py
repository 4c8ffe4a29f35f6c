"""Other ways to compute a cell of the 2NN: models, data, cohorts, clients.

The paper leaves open what these vary. All are C = 0.1, E = 1, B = 10.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import numpy as np
import optax
from flax import linen as nn
from jax import numpy as jnp
from jax.nn import initializers

from benchmarks.paper import readings
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


class Way(NamedTuple):
  """One line.

  Attributes:
    clients: 'IID' or 'non-IID'.
    name: of the way.
    model: builds it.
    sixths: rates, as sixths of a power of ten.
    unit: what rates are multiplied by.
    limit: rounds after which a rate is given up.
    read: the readings that each member runs on for, names of `READINGS`.
    seeds: of weights, cohorts and orders.
    deal: (labels, seed) -> partition; None is `iid` or `shards`.
    deal_seed: of the partition; None is the member's.
    sampler: seed -> who takes part; None draws without replacement.
    make: (model, rate) -> the algorithm.
  """

  clients: str
  name: str
  model: Callable[[], types.Model]
  sixths: tuple[int, ...] = (-10, -8, -6, -4, -2)
  unit: float = 1.0
  limit: int = 160
  read: tuple[str, ...] = (readings.PLAIN,)
  seeds: Sequence[int] = (0, 1, 2)
  deal: Callable[[np.ndarray, int], partition.Partition] | None = None
  deal_seed: int | None = None
  sampler: Callable[[int], sampling.Sampler] | None = None
  make: Callable[[types.Model, float], types.FederatedAlgorithm] = plain

  @property
  def rates(self) -> tuple[float, ...]:
    return tuple(10 ** (k / 6) * self.unit for k in self.sixths)


def _centered() -> types.Model:
  return net(preprocess=scaled(-0.5, 0.5))


def _noniid(name: str, sixths=(-6,), model=_centered, **fields) -> Way:
  """With pixels from -0.5 to 0.5, at the rate that is best there."""
  return Way('non-IID', name, model, sixths, **{'limit': 1000, **fields})


_early_tensorflow = initializers.truncated_normal(0.1)
_GRID = {'sixths': (-6, -4, -2), 'limit': 1000, 'read': (
    'every round', 'every 10', 'every 20', 'every 50')}
# What TensorFlow's tutorials and defaults had in 2015 and 2016.
WEIGHTS_AND_PIXELS = (
    Way('IID', 'Glorot-uniform, pixels 0 to 1 (ours)', lambda: net()),
    Way('IID', 'uniform, variance 1 / inputs',
        lambda: net(initializers.lecun_uniform())),
    Way('IID', 'truncated normal, deviation 1 / sqrt(inputs)', lambda: net(
        initializers.variance_scaling(1.0, 'fan_in', 'truncated_normal'))),
    Way('IID', 'truncated normal, deviation 0.1, biases 0.1',
        lambda: net(_early_tensorflow, 0.1)),
    Way('IID', 'normal, deviation 0.01',
        lambda: net(initializers.normal(0.01))),
    Way('IID', 'pixels -0.5 to 0.5', _centered),
    Way('IID', 'pixels -1 to 1', lambda: net(preprocess=scaled(-1, 1))),
    Way('IID', 'pixels standardized', lambda: net(
        preprocess=adapters.standardized(0.1307, 0.3081))),
    # Pixels 255 times as large want rates 255^2 times as small.
    Way('IID', 'pixels 0 to 255', lambda: net(preprocess=scaled(0, 255)),
        unit=1 / 255 ** 2),
    Way('non-IID', 'Glorot-uniform, pixels 0 to 1 (ours)', lambda: net(),
        **_GRID),
    Way('non-IID', 'pixels -0.5 to 0.5', _centered,
        **_GRID | {'sixths': (-8, -6, -4)}),
    Way('non-IID', 'pixels -0.5 to 0.5, truncated normal, deviation 0.1, '
        'biases 0.1', lambda: net(
            _early_tensorflow, 0.1, preprocess=scaled(-0.5, 0.5)),
        **_GRID | {'sixths': (-8, -6, -4)}),
)
# Non-IID, with the pixels that make the IID cells agree. Most telling first.
NONIID = (
    _noniid('batches fixed, one digit after the other', (-8, -6),
            make=ordered()),
    _noniid('as before, read in other ways', limit=700,
            read=tuple(readings.READINGS)),
    _noniid('pixels -1 to 1', (-8,), lambda: net(preprocess=scaled(-1, 1))),
    _noniid('weights sent as bfloat16', make=sent_as(jnp.bfloat16)),
    _noniid('cohorts drawn with replacement', sampler=with_replacement),
    _noniid('two different digits each', deal=two_digits),
    _noniid('ten fixed cohorts in turn', sampler=in_turn),
    _noniid('batches fixed, digits mixed', deal=mixed_once, make=ordered()),
    _noniid('partition of seed 0', deal_seed=0),
    _noniid('partition of seed 1', deal_seed=1),
    _noniid('batches of one digit, in random order', make=ordered(True)),
    _noniid('weights sent as float16', make=sent_as(jnp.float16)),
    _noniid('rate falling by 0.5% a round', (-5,), make=decayed(0.995)),
)
WAYS = WEIGHTS_AND_PIXELS + NONIID
