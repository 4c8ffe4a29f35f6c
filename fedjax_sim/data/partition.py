"""Partitions: which example belongs to which client.

A partition is a list of N int64 arrays; array i holds the indices of client
i's examples. Each example is used at most once, and no client is empty unless
that is asked for. Everything here is NumPy, and a function of its arguments
alone: the same seed gives the same partition. (NumPy keeps its streams within
a version; across versions it may change them.)

Letters: N clients, E examples in all, L distinct labels.
"""

import bisect
import math
import numbers
import zlib
from typing import Any

import numpy as np

from fedjax_sim.core import checks, random
from fedjax_sim.data.partition_summary import (
    as_labels,
    as_partition,
    check,
    label_counts,
    sizes_of,
    summary,
)

__all__ = [
    'Partition', 'as_partition', 'check', 'dirichlet', 'iid', 'label_counts',
    'natural', 'quantity', 'shards', 'sizes_of', 'split', 'summary']

Partition = list[np.ndarray]


def iid(
    labels_or_num_examples: Any, num_clients: int, *, seed: int
) -> Partition:
  """Shuffles the examples and deals them out evenly.

  Args:
    labels_or_num_examples: [E] labels, of which only the length counts, or E.
    num_clients: N, at most E.
    seed: whole number from 0 to 2**64 - 1.

  Returns:
    N arrays that use every example once; their sizes differ by at most one.

  Raises:
    ValueError: an argument is out of range.
  """
  if np.ndim(labels_or_num_examples):
    num_examples = len(as_labels(labels_or_num_examples))
  else:
    num_examples = checks.positive_int('num_examples', labels_or_num_examples)
  _check_enough(num_examples, num_clients, 1)
  order = _rng(seed, 'iid').permutation(num_examples)
  return np.array_split(order, num_clients)


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
  dealing = _rng(seed, 'shards').permutation(num_shards)
  return list(by_label[dealing].reshape(num_clients, -1))


def dirichlet(
    labels: Any,
    num_clients: int,
    alpha: float,
    *,
    seed: int,
    min_size: int = 1,
    max_tries: int = 1000,
) -> Partition:
  """Skewed labels: each label is shared out in Dirichlet proportions.

  For each label the clients' shares of its examples are drawn from
  Dir(alpha, ..., alpha), independently of the other labels (Yurochkin et al.
  2019, section 4). A share has mean 1/N and variance
  (1/N)(1 - 1/N) / (N alpha + 1): with a large alpha every client has every
  label, with a small one a label sits with few clients. Client sizes vary too.
  (Hsu et al. 2019 skew labels with the same distribution the other way round:
  each client draws proportions of labels and all clients have one size.)

  The whole draw is repeated until every client has `min_size` examples, so
  the distribution is the one above given that.

  Args:
    labels: [E], whole numbers or strings.
    num_clients: N.
    alpha: concentration, positive.
    seed: whole number from 0 to 2**64 - 1.
    min_size: the fewest examples a client may have; 0 allows empty clients.
    max_tries: how many draws to make before giving up.

  Returns:
    N arrays that use every example once, each in the order of the file.

  Raises:
    ValueError: an argument is out of range, or no draw had the minimum size;
      the message tells the best draw's smallest size and what to change.
  """
  labels = as_labels(labels)
  # On the host, in float64: not bound to what float32 holds.
  if not (isinstance(alpha, numbers.Real) and not isinstance(alpha, bool)
          and 0 < alpha < math.inf):
    raise ValueError(f'alpha must be positive and finite, got {alpha!r}.')
  checks.at_least('min_size', min_size, 0)
  checks.positive_int('max_tries', max_tries)
  _check_enough(len(labels), num_clients, min_size)
  rng = _rng(seed, 'dirichlet')
  _, label_of, totals = np.unique(
      labels, return_inverse=True, return_counts=True)
  best = -1
  for _ in range(max_tries):
    counts = _dirichlet_counts(rng, totals, num_clients, alpha)
    best = max(best, int(counts.sum(axis=0).min()))
    if best >= min_size:
      return _deal_by_label(rng, label_of, counts)
  raise ValueError(
      f'dirichlet found no partition with min_size={min_size}: over max_tries='
      f'{max_tries} draws the best had {best} for its smallest client '
      f'(num_clients={num_clients}, alpha={alpha}, {len(labels)} examples). '
      'Raise alpha, or lower num_clients or min_size (0 allows empty clients).')


def quantity(
    num_examples: int,
    num_clients: int,
    *,
    seed: int,
    sigma: float,
    min_size: int = 1,
) -> Partition:
  """IID labels, log-normal sizes.

  Sizes are proportional to exp(sigma * z), z standard normal for each client;
  clients whose share is below `min_size` get that, and the others divide what
  is left in the same proportions. Fractions are rounded by largest remainder,
  so that the sizes sum to `num_examples` exactly.

  Args:
    num_examples: E.
    num_clients: N.
    seed: whole number from 0 to 2**64 - 1.
    sigma: standard deviation of log(size), >= 0; 0 gives equal sizes.
    min_size: the fewest examples a client may have.

  Returns:
    N arrays that use every example once, in random order.

  Raises:
    ValueError: an argument is out of range, or E < N * min_size.
  """
  checks.positive_int('num_examples', num_examples)
  checks.non_negative('sigma', sigma)
  checks.at_least('min_size', min_size, 0)
  _check_enough(num_examples, num_clients, min_size)
  rng = _rng(seed, 'quantity')
  logs = sigma * rng.standard_normal(num_clients)
  sizes = _apportion(np.exp(logs - logs.max()), num_examples, min_size)
  return np.split(rng.permutation(num_examples), np.cumsum(sizes)[:-1])


def natural(client_ids: Any) -> tuple[Partition, list[str]]:
  """The partition that comes with the data: a client id for each example.

  Clients are in sorted order of their ids (whole numbers by value, strings by
  code point), not of first appearance: then a client's number, which its
  random draws depend on, is the same however the examples are ordered.

  Args:
    client_ids: [E], whole numbers, strings or bytes (UTF-8).

  Returns:
    (partition, ids): N arrays, each in the order of the file, and N names.

  Raises:
    ValueError: not a non-empty 1-D array of whole numbers, strings or bytes.
  """
  ids, owner, sizes = np.unique(
      as_labels(client_ids, 'client_ids'), return_inverse=True,
      return_counts=True)
  names = [x.decode() if isinstance(x, bytes) else str(x) for x in ids]
  return _group(owner, sizes), names


def split(
    partition: Partition,
    test_fraction: float,
    *,
    seed: int,
    shuffle: bool = True,
) -> tuple[Partition, Partition]:
  """Splits each client's own data into train and test.

  Of a client's n examples, test gets floor(test_fraction * n), but at least
  one if n >= 2, and never all; a client with a single example keeps it for
  training and has an empty test part. `test_fraction=0` leaves all test parts
  empty.

  The FedAvg paper's Shakespeare is `test_fraction=0.2, shuffle=False`: the
  first 80% of a role's lines are for training, the last 20% "(rounded up to at
  least one line)" for test. That this means floor, and one where it gives
  none, follows from the paper's counts: 19.62% of all characters are test;
  floor gives 19.61%, rounding every role up 20.37%.

  Args:
    partition: N int arrays.
    test_fraction: in [0, 1).
    seed: whole number from 0 to 2**64 - 1; without effect if not `shuffle`.
    shuffle: draw the test examples at random. If False, they are each client's
      last ones, and both parts keep their order.

  Returns:
    (train, test), two partitions of N clients that share no example.

  Raises:
    ValueError: `test_fraction` is outside [0, 1).
  """
  if checks.fraction('test_fraction', test_fraction) == 1:
    raise ValueError(
        f'test_fraction must lie in [0, 1), got {test_fraction!r}: it would '
        'leave nothing to train on.')
  rng = _rng(seed, 'split')
  train, test = [], []
  for client in as_partition(partition):
    client = np.asarray(client)
    client = rng.permutation(client) if shuffle else client
    cut = len(client) - _test_size(len(client), test_fraction)
    train.append(client[:cut])
    test.append(client[cut:])
  return train, test


def _rng(seed: int, purpose: str) -> np.random.Generator:
  """A stream for one purpose: `split` must not repeat what `iid` drew."""
  return np.random.default_rng(
      random.words(seed, zlib.crc32(purpose.encode())))


def _check_enough(num_examples: int, num_clients: int, min_size: int) -> None:
  checks.positive_int('num_clients', num_clients)
  if num_clients * min_size > num_examples:
    raise ValueError(
        f'num_clients={num_clients} with at least {min_size} each need '
        f'{num_clients * min_size} examples; there are {num_examples}.')


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


def _dirichlet_counts(
    rng: np.random.Generator, totals: np.ndarray, num_clients: int,
    alpha: float,
) -> np.ndarray:
  """int64 [L, N]: one draw of how many of each label each client gets."""
  shares = rng.dirichlet(np.full(num_clients, alpha), size=len(totals))
  # The cuts between clients are rounded, not the shares, so each label adds up.
  # One random offset a label makes every client's expected count its share;
  # rounding to nearest would give the first and last clients too little.
  offset = rng.random((len(totals), 1))
  cuts = np.floor(np.cumsum(shares, axis=1) * totals[:, None] + offset)
  cuts = np.minimum(cuts, totals[:, None]).astype(np.int64)
  cuts[:, -1] = totals  # Whatever the shares' sum has been rounded to.
  return np.diff(cuts, axis=1, prepend=0)


def _deal_by_label(
    rng: np.random.Generator, label_of: np.ndarray, counts: np.ndarray
) -> Partition:
  """Deals counts[l, i] examples of label l to client i, drawn at random."""
  num_labels, num_clients = counts.shape
  owner = np.empty(len(label_of), np.int64)
  for label in range(num_labels):
    examples = rng.permutation(np.flatnonzero(label_of == label))
    owner[examples] = np.repeat(np.arange(num_clients), counts[label])
  return _group(owner, counts.sum(axis=0))


def _group(owner: np.ndarray, sizes: np.ndarray) -> Partition:
  """A partition from each example's owner [E] and the sizes [N]."""
  order = np.argsort(owner, kind='stable')
  return np.split(order, np.cumsum(sizes)[:-1])


def _apportion(
    weights: np.ndarray, total: int, min_size: int
) -> np.ndarray:
  """Whole numbers >= min_size, in proportion to weights [N], summing to total.

  Needs total >= N * min_size. Each pass fixes the shares that fall below the
  minimum; that takes from the others, so it repeats until none does.
  """
  fixed = np.zeros(len(weights), bool)
  while True:
    free = np.where(fixed, 0.0, weights)
    shares = np.where(
        fixed, min_size,
        free / max(free.sum(), np.finfo(float).tiny)
        * (total - min_size * fixed.sum()))
    below = shares < min_size
    if not below.any():
      break
    fixed |= below
  sizes = np.floor(shares).astype(np.int64)
  order = np.argsort(np.where(fixed, np.inf, sizes - shares), kind='stable')
  sizes[order[:total - sizes.sum()]] += 1
  return sizes


def _test_size(size: int, fraction: float) -> int:
  if not fraction or size < 2:
    return 0
  # Rounded first: 0.29 * 100 is 28.999999999999996 in floating point.
  share = math.floor(round(fraction * size, 6))
  return min(max(share, 1), size - 1)


