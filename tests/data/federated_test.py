"""Federated data: every example once, grouped, in storage dtype."""


import jax
import numpy as np
import pytest

from fedjax_sim.data import federated
from fedjax_sim.data import partition as partition_lib


def make_examples(size=30):
  rng = np.random.default_rng(0)
  return {
      'x': {'image': rng.integers(0, 256, (size, 4, 3)).astype(np.uint8),
            'mask': rng.integers(0, 2, (size, 2)).astype(bool)},
      'y': rng.integers(0, 5, size).astype(np.int32)}


PARTITION = [np.array(c) for c in ([5, 2, 9], [0], [29, 1, 3, 4])]


def assert_same(tree, other):
  assert jax.tree.structure(tree) == jax.tree.structure(other)
  for a, b in zip(jax.tree.leaves(tree), jax.tree.leaves(other), strict=True):
    assert a.dtype == b.dtype
    np.testing.assert_array_equal(a, b)


def test_federate_groups_by_client():
  examples = make_examples()
  data = federated.federate(examples, PARTITION)
  assert (data.num_clients, data.num_examples, data.max_size) == (3, 8, 4)
  assert data.offsets.tolist() == [0, 3, 4, 8]
  assert data.offsets.dtype == np.int32
  assert data.sizes.tolist() == [3, 1, 4]
  assert data.client_ids == ['0', '1', '2']
  for i, indices in enumerate(PARTITION):
    expected = jax.tree.map(
        lambda leaf, indices=indices: np.stack([leaf[k] for k in indices]),
        examples)
    assert_same(data.client(i), expected)


def test_a_client_is_a_view():
  data = federated.federate(make_examples(), PARTITION)
  for leaf, whole in zip(jax.tree.leaves(data.client(2)),
                         jax.tree.leaves(data.examples), strict=True):
    assert np.shares_memory(leaf, whole)


def test_federate_copies():
  examples = make_examples()
  data = federated.federate(examples, [np.arange(30)])
  examples['y'][:] = -1
  assert data.examples['y'].min() >= 0


def test_from_clients_is_the_inverse_of_client():
  data = federated.federate(make_examples(), PARTITION, ['c', 'a', 'b'])
  again = federated.from_clients(
      [data.client(i) for i in range(3)], data.client_ids)
  assert_same(again.examples, data.examples)
  assert again.offsets.tolist() == data.offsets.tolist()
  assert again.offsets.dtype == np.int32
  assert again.client_ids == ['c', 'a', 'b']


def test_single_holds_everything_in_order_without_a_copy():
  examples = make_examples()
  data = federated.single(examples)
  assert data.offsets.tolist() == [0, 30] and data.client_ids == ['0']
  assert_same(data.client(0), examples)
  assert np.shares_memory(data.examples['x']['image'], examples['x']['image'])


def test_empty_clients_when_asked():
  partition = [PARTITION[0], np.array([], np.int64), PARTITION[1]]
  data = federated.federate(make_examples(), partition, allow_empty=True)
  assert data.sizes.tolist() == [3, 0, 1]
  assert data.client(1)['y'].shape == (0,)
  again = federated.from_clients(
      [data.client(i) for i in range(3)], allow_empty=True)
  assert_same(again.examples, data.examples)


def test_takes_natural_partitions():
  partition, names = partition_lib.natural(['b', 'a', 'b'])
  data = federated.federate({'y': np.array([1, 2, 3])}, partition, names)
  assert data.client_ids == ['a', 'b']
  assert data.client(1)['y'].tolist() == [1, 3]


# dtypes


@pytest.mark.parametrize('wide, narrow', [
    ('int64', 'int32'), ('uint64', 'uint32'), ('float64', 'float32'),
    ('complex128', 'complex64')])
def test_wide_leaves_are_narrowed(wide, narrow):
  values = np.array([0, 3, 1], wide)
  for data in (federated.federate({'y': values}, [np.arange(3)]),
               federated.from_clients([{'y': values}]),
               federated.single({'y': values})):
    assert data.examples['y'].dtype == narrow
    assert data.examples['y'].tolist() == [0, 3, 1]


@pytest.mark.parametrize('dtype', [
    'bool', 'uint8', 'int8', 'int16', 'int32', 'uint32', 'float16', 'float32',
    jax.numpy.bfloat16])
def test_storage_dtypes_stay(dtype):
  data = federated.single({'y': np.array([0, 1], dtype)})
  assert data.examples['y'].dtype == dtype


@pytest.mark.parametrize('dtype, fits, too_far', [
    ('int64', [-2**31, 2**31 - 1], -2**31 - 1),
    ('int64', [-2**31, 2**31 - 1], 2**31),
    ('uint64', [0, 2**32 - 1], 2**32)])
def test_integers_that_do_not_fit_are_refused(dtype, fits, too_far):
  data = federated.single({'y': np.array(fits, dtype)})
  assert data.examples['y'].tolist() == fits
  with pytest.raises(ValueError, match=rf"examples\['y'\] .*holds {too_far}"):
    federated.single({'y': np.array([0, too_far], dtype)})


@pytest.mark.parametrize('values', [
    np.array([None, 'a']), np.array(['a', 'b']), np.array([b'a', b'b']),
    np.zeros(2, 'datetime64[s]'), np.zeros(2, [('a', 'i4')])])
def test_leaves_that_are_no_numbers_are_refused(values):
  with pytest.raises(ValueError, match=r"examples\['x'\] must hold numbers"):
    federated.single({'x': values, 'y': np.arange(2)})


# errors


X, Y = np.zeros((30, 2), np.float32), np.zeros(30, np.int32)


@pytest.mark.parametrize('call, message', [
    (lambda f: f.federate({'x': X, 'y': Y[:29]}, PARTITION),
     r"examples\['x'\] and examples\['y'\] .* got 30 and 29"),
    (lambda f: f.single({'x': X, 'y': Y[:29]}), 'got 30 and 29'),
    (lambda f: f.single({'x': X, 'y': np.int32(3)}),
     r"examples\['y'\] must have a leading axis"),
    (lambda f: f.single({}), 'examples must hold at least one array'),
    (lambda f: f.single({'x': X[:0]}), 'num_examples .* got 0'),
    (lambda f: f.federate({'x': X}, [np.array([30])]), 'client 0 has index 30'),
    (lambda f: f.federate({'x': X}, [np.arange(2), np.arange(1, 3)]),
     'example 1 is used by client 0 and by client 1'),
    (lambda f: f.federate({'x': X}, [np.arange(2), np.arange(0)]),
     'client 1 is empty'),
    (lambda f: f.federate({'x': X}, PARTITION, ['a', 'b']),
     'each of the 3 clients, got 2 names'),
    (lambda f: f.federate({'x': X}, PARTITION, ['a', 'b', 'a']),
     "distinct, got 'a' 2 times"),
    (lambda f: f.federate({'x': X}, PARTITION).client(3), r'\[0, 3\), got 3'),
    (lambda f: f.federate({'x': X}, PARTITION).client(-1), 'got -1'),
    (lambda f: f.from_clients([]), 'num_clients'),
    (lambda f: f.from_clients([{'x': X}, {'x': X[:0]}]), 'client 1 is empty'),
    (lambda f: f.from_clients([{'x': X, 'y': Y}, {'x': X, 'y': Y[1:]}]),
     r"client 1: examples\['x'\] and .* got 30 and 29"),
    (lambda f: f.from_clients([{'x': X}, {'x': X, 'y': Y}]),
     'client 1 must have the structure of the first client'),
    (lambda f: f.from_clients([{'x': X}, {'x': X[:, :1]}]),
     r"client 1: examples\['x'\] .* float32 \[2\] .* got float32 \[1\]"),
    (lambda f: f.from_clients([{'x': X}, {'x': X.astype(np.uint8)}]),
     r'float32 \[2\] an example, got uint8 \[2\]'),
])
def test_bad_arguments_are_named(call, message):
  with pytest.raises(ValueError, match=message):
    call(federated)
