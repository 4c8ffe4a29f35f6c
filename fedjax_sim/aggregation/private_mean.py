"""Differentially private means: clipped, summed, with noise on the sum.

With a cohort S_t of M clients on average, each client's update clipped to an L2
norm C over all of its values,

    update_t = (sum_{k in S_t} clip_C(update_k) + N(0, (z C)^2 I)) / M

as in DP-FedAvg, McMahan, Ramage, Talwar, Zhang, "Learning Differentially
Private Recurrent Language Models" (2018), algorithm 1, with all weights one and
the estimator of a fixed denominator. z is the noise multiplier;
`privacy.guarantee` says what it means in epsilon.

The norm may be fixed, or follow a quantile of the clients' norms (Andrew,
Thakkar, McMahan, Ramaswamy, "Differentially Private Learning with Adaptive
Clipping", 2021, algorithm 1).
"""

from typing import NamedTuple

import jax
from jax import numpy as jnp

from fedjax_sim.aggregation.chain import aggregator
from fedjax_sim.aggregation.clip import length, shortened
from fedjax_sim.aggregation.encodings import Kind
from fedjax_sim.aggregation.means import fixed_mean
from fedjax_sim.aggregation.transform import transform
from fedjax_sim.core import checks, precision, specs
from fedjax_sim.core.types import (
    Aggregate,
    Aggregator,
    Message,
    PyTree,
    Reducer,
)

_NAME = 'private_mean'


class AdaptiveNorm(NamedTuple):
  """A clipping norm that follows a quantile; `adaptive` makes one.

  Attributes:
    norm, quantile, learning_rate, count_noise: as there.
  """

  norm: float
  quantile: float
  learning_rate: float
  count_noise: float | None


@specs.traceable('norm', 'quantile', 'learning_rate')
def adaptive(
    norm: float = 0.1, *, quantile: float = 0.5, learning_rate: float = 0.2,
    count_noise: float | None = None,
) -> AdaptiveNorm:
  """A clipping norm for `private_mean` that follows a quantile of the norms.

    b_k = 1 if |update_k| <= C_t, else 0
    b_t = 1/2 + (sum_k (b_k - 1/2) + N(0, sigma_b^2)) / M
    C_{t+1} = C_t exp(-eta (b_t - quantile))

  The noise on the count takes a part of the privacy of a round, which the noise
  on the sum makes up for: its multiplier is z / sqrt(1 - (z / (2 sigma_b))^2),
  and both together are as private as a sum with multiplier z (theorem 1).

  Args:
    norm: C_0, positive.
    quantile: in [0, 1]; the share of updates that are not clipped.
    learning_rate: eta, positive.
    count_noise: sigma_b, in clients, more than z / 2. None is M / 20, the
      paper's, or z if that is more.

  Raises:
    ValueError: an argument is out of range.
  """
  checks.positive('norm', norm)
  checks.fraction('quantile', quantile)
  checks.positive('learning_rate', learning_rate)
  if count_noise is not None:
    checks.positive('count_noise', count_noise)
  return AdaptiveNorm(norm, quantile, learning_rate, count_noise)


@specs.traceable('clip', 'noise')
def private_mean(
    clip: float | AdaptiveNorm, *, noise: float, cohort_size: int
) -> Aggregator:
  """The clipped mean with Gaussian noise, as a whole aggregator.

  Clients count alike, whatever their weights. A round without clients is noise
  alone. The record has `private_mean/norm`, and with an adaptive norm
  `private_mean/below`, b_t.

  The server must learn nothing else of the clients. So algorithms whose
  messages have sums of their own (q_fedavg, scaffold, feddyn ...) or go to one
  of several models (ifca) are refused. Metrics of training and who took part
  are in the records of a simulation as they are: don't publish them with the
  model.

  Args:
    clip: C, positive, or an `adaptive` norm.
    noise: z, the deviation of the noise on the sum over C; 0 only clips.
    cohort_size: M, the clients of a round, on average.

  Raises:
    ValueError: an argument is out of range, or the noise on the count is too
      small beside `noise`. When a simulation is built, the messages hold what
      no noise covers.
  """
  checks.non_negative('noise', noise)
  checks.positive_int('cohort_size', cohort_size)
  if isinstance(clip, AdaptiveNorm):
    parts = _adaptive(clip, noise, cohort_size)
  else:
    parts = _fixed(checks.positive('clip', clip), noise)
  made = aggregator(
      transform(_NAME, **parts, encodes=(Kind.SCALES,)),
      reduce=_of_updates_alone(cohort_size))
  return made._replace(noise_multiplier=noise)


def _fixed(norm: float, noise: float) -> dict:
  """The parts of the transform for a norm that stays."""
  def client(message: Message, state, memory, keys, cohort):
    del state, keys, cohort
    _check_message(message)
    update = shortened(message.update, norm, length(message.update))
    return message._replace(update=update), memory

  def server(aggregate: Aggregate, state, key, cohort):
    del cohort
    return _noisy(aggregate, noise * norm, key), state, {'norm': norm}

  return {'client': client, 'server': server}


def _adaptive(rule: AdaptiveNorm, noise: float, cohort_size: int) -> dict:
  """The parts of the transform for a norm that follows a quantile."""
  count_noise = rule.count_noise
  if count_noise is None:
    count_noise = jnp.maximum(cohort_size / 20, noise)
  elif not checks.is_traced(noise) and noise >= 2 * count_noise:
    raise ValueError(
        'count_noise of adaptive must be more than half of noise, so that '
        'something is left for the sum, got '
        f'{count_noise!r} beside noise={noise!r}.')

  def client(message: Message, norm, memory, keys, cohort):
    del keys, cohort
    _check_message(message)
    own = length(message.update)
    return message._replace(
        update=shortened(message.update, norm, own),
        sums={'below': jnp.where(
            own <= norm, 0.5, -0.5).astype(precision.scalar())}), memory

  def server(aggregate: Aggregate, norm, key, cohort):
    del cohort
    for_sum, for_count = jax.random.split(key)
    below = 0.5 + (aggregate.sums['below'] + count_noise * _normal(
        for_count, ())) / cohort_size
    deviation = norm * noise / jnp.sqrt(1 - (noise / (2 * count_noise)) ** 2)
    following = norm * jnp.exp(-rule.learning_rate * (below - rule.quantile))
    return (_noisy(aggregate, deviation, for_sum), following,
            {'norm': norm, 'below': below})

  return {
      'init': lambda message, num_clients, key: jnp.asarray(
          rule.norm, precision.scalar()),
      'client': client, 'server': server}


def _noisy(aggregate: Aggregate, deviation, key) -> Aggregate:
  """Adds noise of this deviation to the sum, and tells no more than that."""
  leaves, treedef = jax.tree.flatten(aggregate.mean)
  scale = deviation / aggregate.denominator
  noisy = [(x + scale * _normal(jax.random.fold_in(key, i), x.shape)).astype(
      x.dtype) for i, x in enumerate(leaves)]
  # The sum of weights would be each client's number of examples in the clear.
  weight = jax.tree.map(
      lambda w: jnp.broadcast_to(aggregate.denominator, w.shape).astype(
          w.dtype), aggregate.weight)
  return aggregate._replace(
      mean=jax.tree.unflatten(treedef, noisy), weight=weight)


def _normal(key, shape: tuple[int, ...]) -> jax.Array:
  """Standard normal; the same values in every precision of a model."""
  return jax.random.normal(key, shape, jnp.float32)


def _of_updates_alone(cohort_size: int) -> Reducer:
  """`fixed_mean(cohort_size)` of messages that hold no other sums."""
  mean = fixed_mean(cohort_size)

  def init(message: Message, num_slots: int) -> PyTree:
    if {*message.sums} - {_NAME}:
      raise ValueError(
          'private_mean must be all that a server learns of its clients, but '
          "the algorithm's messages also hold sums that get no noise, such as "
          'losses or counts; those of fedavg, fedprox and fedadam hold none.')
    return mean.init(message, num_slots)

  return mean._replace(init=init, name='private_mean')


def _check_message(message: Message) -> None:
  if message.group is not None:
    raise ValueError(
        'private_mean must have one sum for all clients, got messages in '
        'groups, as those of ifca are: the group would be told without noise.')
