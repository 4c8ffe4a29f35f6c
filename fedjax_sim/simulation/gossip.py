"""Clients that average with their neighbours: one product with a matrix.

The models of all clients, stacked [N, ...], are multiplied by the mixing matrix
W [N, N] after a round's local work:

    x_i <- sum_j W_ij x_j

In a round in which some rest, the links to them rest too, and what they would
have weighed stays with the client itself: W_ij = 0 where i or j rests, and W_ii
= 1 - sum_{j != i} W_ij. That is symmetric and doubly stochastic again, so the
mean of the models stays as it is (Koloskova, Loizou, Boreiri, Jaggi, Stich, "A
Unified Theory of Decentralized SGD with Changing Topology and Local Updates",
2020, whose matrices may change in each round).

With several devices each has some clients' models; all of them come to each
device, which computes the rows of its own clients.
"""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jax import numpy as jnp

from fedjax_sim.core import mixing, precision, trees
from fedjax_sim.core.topology import Gossip, Peer
from fedjax_sim.core.types import PyTree
from fedjax_sim.simulation.placement import collectives, sharding

# Of a record: models that went from a client to a neighbour.
_MESSAGES = 'consensus/messages'


def mixed(
    gossip: Gossip, peers: Peer, round_number, num_clients: int, devices: int
) -> tuple[Peer, dict[str, dict[str, jax.Array]]]:
  """The clients after they have mixed their models, and what is told of it.

  Args:
    gossip: how they mix.
    peers: Peer [num_states], those of the device.
    round_number: int32 [], of the round that has ended, from 0.
      Clients that have done no local work in it rest.
    num_clients: N.
    devices: D; with several this runs inside of `sharding.spread`.

  Returns:
    (peers, metrics by part): the root mean square distance of the models from
    their mean, over those who do not rest, and the models that were sent.
  """
  weights = gossip.weights(num_clients)
  everyone = peers
  if devices > 1:
    everyone = collectives.gathered(peers, axis=0)
  count, own = len(everyone.round), len(peers.round)
  first = jax.lax.axis_index(sharding.AXIS) * own if devices > 1 else 0
  present = everyone.round == round_number
  matrix, links = _rows(weights, present, first, own, count)
  here = peers.round == round_number

  def product(all_models: jax.Array, models: jax.Array) -> jax.Array:
    rows = precision.wide(all_models).reshape(count, -1)
    rows = jnp.where(present[:, None], rows, 0)  # Never multiplied.
    new = jnp.matmul(
        matrix.astype(rows.dtype), rows, precision=jax.lax.Precision.HIGHEST)
    return new.reshape(models.shape).astype(models.dtype)

  models = trees.where(here, jax.tree.map(
      product, everyone.model, peers.model), peers.model)
  mean = _mean(everyone.model, present)
  total = lambda x: collectives.total(x) if devices > 1 else x
  squares, links = total((_squares(models, mean, here), links))
  distance = jnp.sqrt(squares / jnp.maximum(jnp.sum(present), 1))
  gap = jnp.asarray(mixing.spectral_gap(weights), precision.scalar())
  return peers._replace(model=models), {'consensus': {
      'distance': distance, 'messages': precision.floats(links),
      'spectral_gap': gap}}


def sent(record: Mapping[str, Any], size: int) -> dict[str, float]:
  """The bytes of a round, as many received as sent.

  Args:
    record: of the round.
    size: of a model, in bytes.
  """
  total = int(record[_MESSAGES]) * size
  return {'bytes_up': total, 'bytes_down': total}


def _rows(weights: np.ndarray, present, first, own: int, count: int):
  """Rows `first` to `first + own` of a round's matrix, and how many are sent.

  Args:
    weights: [N, N].
    present: bool [count], the clients that do not rest.
    first: int32 [].
    own: how many rows.
    count: N, filled up for the devices.

  Returns:
    (float32 [own, count], int32 []).
  """
  between = np.zeros((count, count), precision.scalar())
  between[:len(weights), :len(weights)] = np.where(
      mixing.links(weights), weights, 0)
  cut = lambda x: jax.lax.dynamic_slice_in_dim(jnp.asarray(x), first, own)
  awake = cut(present)[:, None] & present[None]
  rows = jnp.where(awake, cut(between), 0)
  numbers = jnp.arange(count)
  itself = cut(numbers)[:, None] == numbers[None]
  matrix = jnp.where(itself, 1 - jnp.sum(rows, axis=1, keepdims=True), rows)
  return matrix, jnp.sum(rows != 0, dtype=jnp.int32)


def _mean(models: PyTree, present: jax.Array) -> PyTree:
  """The mean of the models [N, ...] of those who do not rest; wide."""
  kept = trees.where(present, precision.wide(models), trees.zeros(
      precision.wide(models)))
  count = jnp.maximum(jnp.sum(present), 1)
  return jax.tree.map(lambda x: jnp.sum(x, axis=0) / count, kept)


def _squares(models: PyTree, mean: PyTree, here: jax.Array) -> jax.Array:
  """The sum of squared distances of models [n, ...] from a mean."""
  away = jax.tree.map(
      lambda x, m: jnp.square(precision.wide(x) - m[None]), models, mean)
  away = trees.where(here, away, trees.zeros(away))
  return sum(jnp.sum(x, dtype=precision.scalar())
             for x in jax.tree.leaves(away))
