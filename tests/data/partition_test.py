"""Partitions: who gets what, against slow references and derived moments."""

import fractions
import math

import numpy as np
import pytest

from fedjax_sim.data import partition as partition_lib

LABELS = np.random.default_rng(7).integers(0, 5, 600)


def assert_uses_all_once(partition, num_examples):
  """Every example once, as int64, independently of `check`."""
  assert all(client.dtype == np.int64 for client in partition)
  flat = [int(i) for client in partition for i in client]
  assert sorted(flat) == list(range(num_examples))


MAKERS = {
    'iid': lambda seed: partition_lib.iid(600, 7, seed=seed),
    'shards': lambda seed: partition_lib.shards(LABELS, 10, 3, seed=seed),
    'dirichlet': lambda seed: partition_lib.dirichlet(
        LABELS, 10, 0.5, seed=seed),
    'quantity': lambda seed: partition_lib.quantity(
        600, 10, seed=seed, sigma=1.0),
}


@pytest.mark.parametrize('make', MAKERS.values(), ids=MAKERS)
def test_every_example_once_and_nobody_empty(make):
  for seed in range(10):
    partition = make(seed)
    assert_uses_all_once(partition, 600)
    assert min(map(len, partition)) >= 1


@pytest.mark.parametrize('make', MAKERS.values(), ids=MAKERS)
def test_a_function_of_the_seed(make):
  once, again, other = make(3), make(3), make(4)
  assert all(map(np.array_equal, once, again))
  assert [c.tolist() for c in once] != [c.tolist() for c in other]


def test_purposes_do_not_share_a_stream():
  order = partition_lib.iid(50, 1, seed=0)[0]
  train, test = partition_lib.split([np.arange(50)], 0.2, seed=0)
  assert not np.array_equal(order, np.r_[train[0], test[0]])


# iid


@pytest.mark.parametrize('num_examples, num_clients',
                         [(60000, 100), (10, 3), (5, 5), (7, 1)])
def test_iid_sizes_differ_by_at_most_one(num_examples, num_clients):
  sizes = [len(c) for c in partition_lib.iid(num_examples, num_clients, seed=0)]
  low = num_examples // num_clients
  assert len(sizes) == num_clients and sum(sizes) == num_examples
  assert set(sizes) <= {low, low + 1}


def test_iid_takes_labels_or_their_number():
  by_labels = partition_lib.iid(LABELS, 7, seed=2)
  by_number = partition_lib.iid(600, 7, seed=2)
  assert all(map(np.array_equal, by_labels, by_number))


@pytest.mark.parametrize('make', [
    lambda: partition_lib.iid(10000, 10, seed=1),
    lambda: partition_lib.quantity(10000, 10, seed=1, sigma=0.0)])
def test_iid_mixes_the_file(make):
  # A client's mean index has mean 4,999.5 and a standard error of
  # 10000 / sqrt(12 * 1000) = 91; unmixed, the means are 500, 1500, ...
  means = [client.mean() for client in make()]
  assert np.allclose(means, 4999.5, atol=5 * 91)


# shards


def reference_shards(labels, num_shards):
  order = sorted(range(len(labels)), key=lambda i: labels[i])
  size = len(labels) // num_shards
  return [tuple(order[i * size:(i + 1) * size]) for i in range(num_shards)]


def test_shards_are_those_of_a_stable_sort():
  partition = partition_lib.shards(LABELS, 10, 3, seed=5)
  dealt = [tuple(piece) for client in partition
           for piece in client.reshape(3, 20).tolist()]
  expected = reference_shards(LABELS.tolist(), 30)
  assert dealt != expected
  assert sorted(dealt) == sorted(expected)


def test_shards_of_the_paper_hold_few_labels():
  # 200 shards of 300 of a balanced set of 60,000: each shard has one label.
  labels = np.random.default_rng(0).permutation(np.repeat(np.arange(10), 6000))
  partition = partition_lib.shards(labels, 100, 2, seed=0, num_shards=200)
  assert {len(client) for client in partition} == {600}
  assert all(len(set(labels[client])) <= 2 for client in partition)


def test_shards_are_dealt_uniformly():
  # Of 4 shards client 0 gets each pair with chance 1/6: 600 draws, 100 +- 9.1.
  labels = np.arange(4)
  pairs = [tuple(sorted(partition_lib.shards(labels, 2, 2, seed=s)[0]))
           for s in range(600)]
  counts = [pairs.count(pair) for pair in set(pairs)]
  assert len(counts) == 6
  assert np.allclose(counts, 100, atol=5 * 9.1)


def test_shards_take_strings():
  labels = np.array(['b', 'a', 'b', 'a'])
  partition = partition_lib.shards(labels, 2, 1, seed=0)
  assert sorted(c.tolist() for c in partition) == [[0, 2], [1, 3]]


def test_shards_that_do_not_divide_name_what_would():
  # N must divide 60,000 / 2 = 2^4 * 3 * 5^4: 80 and 100 do, nothing between.
  with pytest.raises(ValueError, match='97 .* 2 = 194 must divide') as error:
    partition_lib.shards(np.zeros(60000, int), 97, 2, seed=0)
  message = str(error.value)
  assert '60000' in message
  assert 'num_clients=80, num_clients=100' in message
  # 97 is prime and no factor: no number of shards a client helps.
  assert 'shards_per_client=' not in message
  # 60000 - 60000 % 194.
  assert 'the first 59946 examples' in message


@pytest.mark.parametrize('size, clients, per_client', [
    (60000, 97, 2), (600, 9, 4), (1797, 10, 2), (12, 5, 1), (7, 3, 2)])
def test_suggested_shards_work(size, clients, per_client):
  labels = np.zeros(size, int)
  with pytest.raises(ValueError, match='must divide') as error:
    partition_lib.shards(labels, clients, per_client, seed=0)
  for choice in str(error.value).rstrip('.').split(': ')[1].split(', '):
    kwargs = {'num_clients': clients, 'shards_per_client': per_client}
    used = size
    if choice.startswith('the first'):
      used = int(choice.split()[2])
    else:
      name, value = choice.split('=')
      kwargs[name] = int(value)
    partition = partition_lib.shards(labels[:used], seed=0, **kwargs)
    assert_uses_all_once(partition, used)


def test_nearest_factors_against_trying_all():
  for number in (1, 12, 97, 360):
    for factor in (1, 2, 3, 7):
      valid = [f for f in range(1, number + 1) if number % (factor * f) == 0]
      for wanted in range(1, 40):
        near = ([f for f in valid if f <= wanted][-1:]
                + [f for f in valid if f > wanted][:1])
        assert partition_lib._nearest_factors(number, factor, wanted) == near


def test_shards_refuses_another_number_of_shards():
  with pytest.raises(ValueError, match=r'num_shards .* 10 \* 2 = 20, got 30'):
    partition_lib.shards(LABELS, 10, 2, seed=0, num_shards=30)


# dirichlet


def shares(alpha, num_labels=200, per_label=1000, num_clients=10, seed=0):
  """float [L, N]: each client's share of each label."""
  labels = np.repeat(np.arange(num_labels), per_label)
  labels = np.random.default_rng(seed).permutation(labels)
  partition = partition_lib.dirichlet(
      labels, num_clients, alpha, seed=seed, min_size=0)
  counts = np.zeros((num_labels, num_clients))
  for i, client in enumerate(partition):
    for label in labels[client]:
      counts[label, i] += 1
  return counts / per_label


@pytest.mark.parametrize('alpha', [0.1, 0.5, 5.0])
def test_dirichlet_has_the_variance_of_its_alpha(alpha):
  def variance(a):
    return 0.1 * 0.9 / (10 * a + 1)
  sample = np.mean((shares(alpha) - 0.1) ** 2)
  # 2,000 shares; the estimate's relative standard error is about 4%.
  assert abs(sample / variance(alpha) - 1) < 0.15
  # The same bound rejects an alpha that is off by a factor of two.
  for wrong in (alpha / 2, alpha * 2):
    assert abs(sample / variance(wrong) - 1) > 0.15


def test_dirichlet_mean_share_is_equal():
  # The variance of a mean over 200 labels is 0.09 / 6 / 200: +- 0.0087.
  assert np.allclose(shares(0.5).mean(axis=0), 0.1, atol=5 * 0.0087)


def test_dirichlet_is_fair_where_a_label_is_rare():
  # One example a label: each of 4 clients has a quarter of 4,000, +- 0.0068.
  counts = shares(1.0, num_labels=4000, per_label=1, num_clients=4)
  assert np.allclose(counts.mean(axis=0), 0.25, atol=5 * 0.0068)


@pytest.mark.parametrize('total_share', [0.98, 1.0, 1.02])
@pytest.mark.parametrize('offset', [0.0, 0.99])
def test_dirichlet_counts_add_up_despite_rounding(total_share, offset):
  class Generator:
    def dirichlet(self, alpha, size):
      return np.array([[0.5, total_share - 0.5, 0.0]] * size)
    def random(self, shape):
      return np.full(shape, offset)
  counts = partition_lib._dirichlet_counts(
      Generator(), np.array([10, 100]), 3, 1.0)
  assert counts.sum(axis=1).tolist() == [10, 100]
  assert counts.min() >= 0


def test_dirichlet_extremes():
  # E sum(share^2) = (alpha + 1) / (N alpha + 1): 0.99 for one client a label,
  # 0.1 for all alike.
  assert np.mean(np.sum(shares(0.001) ** 2, axis=1)) > 0.95
  assert np.abs(shares(1e6) - 0.1).max() <= 0.0011 + 5 * 1e-4


def test_dirichlet_deals_a_label_at_random():
  # Client 0's examples of the only label come from all over the file: not, as
  # without a shuffle, its beginning.
  labels = np.zeros(10000, int)
  client = partition_lib.dirichlet(labels, 2, 1e6, seed=0)[0]
  # 5,000 of 10,000: standard error of the mean 2887 / sqrt(5000) / sqrt(2).
  assert abs(client.mean() - 4999.5) < 5 * 29
  assert np.all(np.diff(client) > 0)


def test_dirichlet_reaches_the_minimum_size():
  for seed in range(20):
    partition = partition_lib.dirichlet(
        LABELS, 10, 0.5, seed=seed, min_size=15)
    assert min(map(len, partition)) >= 15


def test_dirichlet_may_leave_clients_empty_when_asked():
  partition = partition_lib.dirichlet(LABELS, 50, 0.01, seed=0, min_size=0)
  assert_uses_all_once(partition, 600)
  assert min(map(len, partition)) == 0


@pytest.mark.parametrize('alpha', [1e-300, 1e300])
def test_dirichlet_is_sound_at_the_edge_of_floats(alpha):
  partition = partition_lib.dirichlet(LABELS, 10, alpha, seed=0, min_size=0)
  assert_uses_all_once(partition, 600)


def test_dirichlet_gives_up_and_says_how_near_it_came():
  # 5 labels, each with one client: at most 5 of 50 clients have anything.
  with pytest.raises(
      ValueError, match=r'max_tries=7 draws the best had 0 .*alpha=1e-05'):
    partition_lib.dirichlet(LABELS, 50, 1e-5, seed=0, max_tries=7)


# quantity


@pytest.mark.parametrize('sigma', [0.3, 1.0])
def test_quantity_sizes_are_log_normal(sigma):
  sizes = np.array([len(c) for c in partition_lib.quantity(
      2_000_000, 2000, seed=0, sigma=sigma)])
  logs = np.log(sizes)
  # Standard errors: of the deviation sigma / sqrt(2 N), of the skewness
  # sqrt(6 / N) = 0.055.
  assert abs(logs.std() / sigma - 1) < 5 / math.sqrt(2 * 2000)
  assert abs(logs.std() / (1.2 * sigma) - 1) > 5 / math.sqrt(2 * 2000)
  assert abs(np.mean(((logs - logs.mean()) / logs.std()) ** 3)) < 5 * 0.055


@pytest.mark.parametrize('sigma', [0.0, 0.5, 2.0, 1000.0])
@pytest.mark.parametrize('num_examples, num_clients, min_size', [
    (1000, 10, 1), (1000, 10, 100), (1003, 10, 100), (50, 50, 1), (7, 50, 0),
    (1001, 7, 40)])
def test_quantity_sums_exactly(sigma, num_examples, num_clients, min_size):
  for seed in range(5):
    partition = partition_lib.quantity(
        num_examples, num_clients, seed=seed, sigma=sigma, min_size=min_size)
    assert len(partition) == num_clients
    assert_uses_all_once(partition, num_examples)
    assert min(map(len, partition)) >= min_size


def test_quantity_without_spread_is_even():
  sizes = [len(c) for c in partition_lib.quantity(103, 10, seed=0, sigma=0.0)]
  assert sorted(sizes) == [10] * 7 + [11] * 3


def test_apportion_by_hand():
  # Shares of 20 are 10, 6, 4 and 0; the last is raised to 2, and the others
  # divide 18 as 9, 5.4 and 3.6: rounding by largest remainder, 9, 5, 4.
  sizes = partition_lib._apportion(np.array([5.0, 3.0, 2.0, 0.0]), 20, 2)
  assert sizes.tolist() == [9, 5, 4, 2]


# natural


def test_natural_groups_by_id():
  partition, names = partition_lib.natural(['b', 'a', 'b', 'c', 'a', 'b'])
  assert names == ['a', 'b', 'c']
  assert [c.tolist() for c in partition] == [[1, 4], [0, 2, 5], [3]]
  assert all(c.dtype == np.int64 for c in partition)


@pytest.mark.parametrize('ids, expected', [
    (np.array([10, 2, 10]), ['2', '10']),
    ([b'\xc3\xa9', b'e'], ['e', 'é']),
    (np.array(['x', 'yy', 'x'], object), ['x', 'yy'])])
def test_natural_names_are_strings(ids, expected):
  assert partition_lib.natural(ids)[1] == expected


def test_natural_numbers_do_not_depend_on_the_order_of_examples():
  ids = np.random.default_rng(0).integers(0, 20, 100)
  moved = np.random.default_rng(1).permutation(100)
  partition, names = partition_lib.natural(ids)
  again, names_again = partition_lib.natural(ids[moved])
  assert names == names_again
  for client, other in zip(partition, again, strict=True):
    assert sorted(client) == sorted(moved[other])


# split


def test_split_sizes_against_fractions():
  sizes = range(120)
  partition = [np.arange(n) for n in sizes]
  for percent in range(1, 100):
    train, test = partition_lib.split(partition, percent / 100, seed=0)
    for n, kept, held_out in zip(sizes, train, test, strict=True):
      expected = math.floor(fractions.Fraction(percent, 100) * n)
      assert len(held_out) == (max(expected, 1) if n >= 2 else 0)
      assert len(kept) + len(held_out) == n


def test_split_leaves_something_to_train_on():
  train, test = partition_lib.split([np.arange(10)], 0.99999999, seed=0)
  assert len(train[0]) == 1 and len(test[0]) == 9


@pytest.mark.parametrize('shuffle', [True, False])
def test_split_parts_are_disjoint_and_complete(shuffle):
  partition = partition_lib.quantity(300, 20, seed=0, sigma=1.0)
  parts = partition_lib.split(partition, 0.3, seed=1, shuffle=shuffle)
  for client, train, test in zip(partition, *parts, strict=True):
    assert sorted(np.r_[train, test]) == sorted(client)
    if not shuffle:
      assert np.array_equal(np.r_[train, test], client)


def test_split_draws_each_example_equally_often():
  # Each of 10 is in the test part with chance 0.3: 1,000 draws, +- 0.0145.
  uses = np.zeros(10)
  for seed in range(1000):
    uses[partition_lib.split([np.arange(10)], 0.3, seed=seed)[1][0]] += 1
  assert np.allclose(uses / 1000, 0.3, atol=5 * 0.0145)


def test_split_differs_from_client_to_client():
  train, _ = partition_lib.split([np.arange(100)] * 2, 0.5, seed=0)
  assert not np.array_equal(train[0], train[1])


def test_split_of_nothing():
  train, test = partition_lib.split([np.arange(5)], 0, seed=0)
  assert len(train[0]) == 5 and len(test[0]) == 0


# summary and check


def test_summary_by_hand():
  labels = np.array([7, 7, 9, 9, 5, 5])
  partition = [np.array(c, int) for c in ([0, 1, 2, 3], [4], [])]
  summary = partition_lib.summary(partition, labels)
  # Entropies 1 bit and 0; the empty client has none. Labels 2 and 1.
  assert summary == (3, 5, 0, 5 / 3, 1.0, 4, 0.5, 1.5)
  assert str(summary) == (
      '3 clients, 5 examples, 0 to 4 each (mean 1.7, median 1); 1.5 labels a '
      'client, entropy 0.50 bits')


def test_summary_of_equal_clients_without_labels():
  summary = partition_lib.summary([np.arange(1000), np.arange(1000, 2000)])
  assert summary.label_entropy is None and summary.labels_per_client is None
  assert str(summary) == '2 clients, 2,000 examples, 1,000 each'


def test_entropy_against_a_plain_sum():
  partition = partition_lib.dirichlet(LABELS, 10, 0.5, seed=0)
  expected = []
  for client in partition:
    values = LABELS[client].tolist()
    chances = [values.count(v) / len(values) for v in set(values)]
    expected.append(-sum(p * math.log2(p) for p in chances))
  summary = partition_lib.summary(partition, LABELS)
  assert summary.label_entropy == pytest.approx(np.mean(expected))


def test_entropy_is_not_minus_zero():
  summary = partition_lib.summary([np.array([0])], [3])
  assert 'entropy 0.00 bits' in str(summary)


def test_label_counts_by_hand():
  counts, values = partition_lib.label_counts(
      [np.array([0, 1]), np.array([3])], np.array([4, 8, 8, 6]))
  assert counts.tolist() == [[1, 0, 1], [0, 1, 0]]
  assert values.tolist() == [4, 6, 8]


def ints(*clients):
  return [np.array(c, np.int64) for c in clients]


def test_check_accepts_unused_examples_and_asked_for_empty_clients():
  partition_lib.check(ints([3], [0, 1]), 5)
  partition_lib.check(ints([3], []), 4, allow_empty=True)
  partition_lib.check([np.array([1], np.uint64), np.array([0], np.int8)], 2)


@pytest.mark.parametrize('partition, message', [
    (ints([0], []), 'client 1 is empty'),
    (ints([0], [4, 5]), r'client 1 has index 5, .* \[0, 5\)'),
    (ints([0], [2], [-1]), 'client 2 has index -1'),
    (ints([0, 1], [3], [4, 1]), '1 is used by client 0 and by client 2'),
    (ints([0], [3, 2, 3]), 'example 3 is used twice by client 1'),
    ([np.array([0.0])], r'client 0 must be .* float64 \[1\]'),
    ([np.array([True])], r'client 0 must be .* bool \[1\]'),
    (ints([[0, 1]]), r'client 0 must be .* int64 \[1, 2\]'),
    ([[0, 1]], 'client 0 must be .* a list'),
    ([], 'num_clients must be .*>= 1, got 0'),
])
def test_check_names_the_client(partition, message):
  with pytest.raises(ValueError, match=message):
    partition_lib.check(partition, 5)


@pytest.mark.parametrize('call, message', [
    (lambda p: p.iid(10, 0, seed=0), 'num_clients .* 1, got 0'),
    (lambda p: p.iid(10, 11, seed=0), 'num_clients=11 .* there are 10'),
    (lambda p: p.iid(0, 1, seed=0), 'num_examples .* got 0'),
    (lambda p: p.iid(10, 2, seed=-1), 'seed .* got -1'),
    (lambda p: p.iid(np.zeros((3, 2), int), 2, seed=0), 'labels must be a 1-D'),
    (lambda p: p.iid(10, 2.0, seed=0), 'num_clients .* got 2.0'),
    (lambda p: p.shards(LABELS, 10, 0, seed=0), 'shards_per_client .* got 0'),
    (lambda p: p.shards(LABELS, 0, 2, seed=0), 'num_clients .* got 0'),
    (lambda p: p.shards([0.5, 1.0], 1, 1, seed=0), r'labels .* float64 \[2\]'),
    (lambda p: p.dirichlet(LABELS, 10, 0, seed=0), 'alpha must be positive'),
    (lambda p: p.dirichlet(LABELS, 10, math.inf, seed=0), 'alpha .* got inf'),
    (lambda p: p.dirichlet([], 10, 1, seed=0), 'labels .* not empty'),
    (lambda p: p.dirichlet(LABELS, 10, 1, seed=0, min_size=-1), 'min_size'),
    (lambda p: p.dirichlet(LABELS, 10, 1, seed=0, max_tries=0), 'max_tries'),
    (lambda p: p.dirichlet(LABELS, 10, 1, seed=0, min_size=61),
     'num_clients=10 with at least 61 each need 610 examples; there are 600'),
    (lambda p: p.quantity(10, 3, seed=0, sigma=-1.0), 'sigma .* got -1.0'),
    (lambda p: p.quantity(10, 3, seed=0, sigma=math.nan), 'sigma .* got nan'),
    (lambda p: p.quantity(10, 3, seed=0, sigma=1, min_size=4), 'need 12 exam'),
    (lambda p: p.natural([1.0]), 'client_ids must be a 1-D array'),
    (lambda p: p.natural([None, 'a']), 'client_ids .*example 0 has none'),
    (lambda p: p.split([np.arange(3)], 1.0, seed=0), r'\[0, 1\), got 1.0'),
    (lambda p: p.split([np.arange(3)], -0.1, seed=0), 'test_fraction .*-0.1'),
    (lambda p: p.summary([]), 'num_clients'),
    (lambda p: p.summary([np.array([4])], [0, 1]), r'index 4, .* \[0, 2\)'),
])
def test_bad_arguments_are_named(call, message):
  with pytest.raises(ValueError, match=message):
    call(partition_lib)
