"""Sorted by label, a few shards a client."""

import bisect
import math
from typing import Any

import numpy as np

from fedjax_sim.core import checks
from fedjax_sim.data.partition.dealing import Partition, rng_of
from fedjax_sim.data.partition.labels import as_labels


def shards(
    labels: Any,
    num_clients: int,
    shards_per_client: int,
    *,
    seed: int,
    num_shards: int | None = None,
) -> Partition:
  """The FedAvg paper's "pathological" split (McMahan et al. 2016, section 3).

  Sorts the examples by label, cuts them into s shards of equal size and deals
  each client k shards at random. MNIST in the paper: N = 100, k = 2, s = 200
  shards of 300. The sort is stable: inside a shard, examples of one label stay
  in the order of the file.

  Args:
    labels: [E], whole numbers or strings.
    num_clients: N.
    shards_per_client: k.
    seed: whole number from 0 to 2**64 - 1.
    num_shards: s, by default N * k, and only that is valid.

  Returns:
    N arrays of k * E / s indices that use every example once.

  Raises:
    ValueError: s is not N * k, or does not divide E; the message gives the
      nearest choices that work.
  """
  labels = as_labels(labels)
  checks.positive_int('num_clients', num_clients)
  checks.positive_int('shards_per_client', shards_per_client)
  dealt = num_clients * shards_per_client
  num_shards = checks.positive_int(
      'num_shards', dealt if num_shards is None else num_shards)
  if num_shards != dealt:
    raise ValueError(
        f'num_shards must be num_clients * shards_per_client = {num_clients} '
        f'* {shards_per_client} = {dealt}, got {num_shards}.')
  if len(labels) % num_shards:
    raise ValueError(
        _shards_message(len(labels), num_clients, shards_per_client))
  by_label = np.argsort(labels, kind='stable').reshape(num_shards, -1)
  dealing = rng_of(seed, 'shards').permutation(num_shards)
  return list(by_label[dealing].reshape(num_clients, -1))


def _shards_message(num_examples: int, clients: int, per_client: int) -> str:
  """Why the shards don't divide, and which choices near by do."""
  count = clients * per_client
  near_clients = _nearest_factors(num_examples, per_client, clients)
  near_shards = _nearest_factors(num_examples, clients, per_client)
  usable = num_examples - num_examples % count
  choices = [f'num_clients={n}' for n in near_clients]
  choices += [f'shards_per_client={k}' for k in near_shards]
  if usable:
    choices.append(f'the first {usable} examples only')
  return (
      f'num_shards = num_clients * shards_per_client = {clients} * '
      f'{per_client} = {count} must divide the number of examples, '
      f'{num_examples}. Nearest valid choices, one at a time: '
      f'{", ".join(choices) or "none"}.')


def _nearest_factors(number: int, factor: int, wanted: int) -> list[int]:
  """The f next to `wanted`, below and above, with factor * f | number."""
  if number % factor:
    return []
  rest = number // factor
  small = [f for f in range(1, math.isqrt(rest) + 1) if rest % f == 0]
  factors = sorted({*small, *(rest // f for f in small)})
  position = bisect.bisect(factors, wanted)
  return factors[max(position - 1, 0):position + 1]
