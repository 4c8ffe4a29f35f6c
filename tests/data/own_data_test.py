"""One's own data, by each way to a federation; and what is said of bad ones."""

import json

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from fedjax_sim import data
from fedjax_sim.data import examples as examples_lib

X = np.arange(12, dtype=np.float32).reshape(6, 2)
Y = np.array([0, 1, 2, 0, 1, 2], np.int32)
NAMES = ['b', 'a', 'b', 'c', 'a', 'b']
OF = {'a': [1, 4], 'b': [0, 2, 5], 'c': [3]}


class Tensor:
  """What is used of a tensor of PyTorch, which NumPy can't take as it is."""

  def __init__(self, value):
    self._value = np.asarray(value)
    self.ndim = self._value.ndim

  def detach(self):
    return self

  cpu = detach

  def numpy(self):
    return self._value

  def item(self):
    return self._value.item()

  def __array__(self, *args, **kwargs):
    raise RuntimeError("Can't call numpy() on Tensor that requires grad.")


class MapStyle:
  """A dataset of PyTorch: items by number."""

  def __init__(self, make):
    self._make = make

  def __len__(self):
    return len(Y)

  def __getitem__(self, i):
    return self._make(i)


def assert_is_the_federation(got, order=('a', 'b', 'c')):
  assert got.client_ids == list(order)
  for i, name in enumerate(order):
    np.testing.assert_array_equal(got.client(i)['x'], X[OF[name]])
    np.testing.assert_array_equal(got.client(i)['y'], Y[OF[name]])
  assert got.examples['y'].dtype == np.int32


# Dicts, pairs, lists


def clients(make):
  return {name: make(X[rows], Y[rows]) for name, rows in OF.items()}


@pytest.mark.parametrize('make', [
    lambda x, y: (x, y), lambda x, y: {'x': x, 'y': y},
    lambda x, y: {'x': x.tolist(), 'y': y.tolist()},
    lambda x, y: (list(x), list(y)),
    lambda x, y: (Tensor(x), [Tensor(v) for v in y]),
    lambda x, y: (jnp.asarray(x), jnp.asarray(y)),
    lambda x, y: (x.astype('>f4'), y.astype('>i8')),
    lambda x, y: (np.array([*map(list, x), None], object)[:-1], y)])
def test_clients_of_any_kind_of_array(make):
  of_dict = data.from_clients(clients(make))
  assert_is_the_federation(of_dict)
  # JSON's lists hold Python's floats.
  assert of_dict.examples['x'].dtype == np.float32
  assert_is_the_federation(data.from_clients(
      list(clients(make).values()), list(OF)))


@pytest.mark.parametrize('make', [
    lambda x: x, lambda x: x.tolist(), Tensor, lambda x: list(map(Tensor, x))])
def test_federate_of_lists(make):
  parts = list(OF.values())
  for given in ({'x': make(X), 'y': make(Y)}, (make(X), make(Y))):
    assert_is_the_federation(data.federate(given, parts, list(OF)))
  assert data.single({'x': make(X), 'y': make(Y)}).num_examples == 6


def test_trees_of_inputs_stay_trees():
  x = {'image': X.tolist(), 'pair': (X, Y)}
  held = data.single({'x': x, 'y': Y}).examples['x']
  assert held['image'].shape == (6, 2) and len(held['pair']) == 2


def test_a_mapped_federation_of_nested_dicts(tmp_path):
  made = [(name, {'x': {'image': X[rows].tolist(), 'more': {'y': Y[rows]}},
                  'y': Y[rows].tolist()}) for name, rows in OF.items()]
  got = data.write_mapped(tmp_path / 'm', made)
  for i, (name, rows) in enumerate(OF.items()):
    own = got.client(i)
    np.testing.assert_array_equal(own['x']['image'], X[rows])
    np.testing.assert_array_equal(own['x']['more']['y'], Y[rows])
    np.testing.assert_array_equal(own['y'], Y[rows])
    assert got.client_ids[i] == name
  assert isinstance(got.examples['x']['image'], np.memmap)


def test_big_endian_numbers_are_stored_as_what_they_are(tmp_path):
  examples = {'x': X.astype('>f4'), 'y': Y.astype('>i2')}
  got = data.write_mapped(tmp_path / 'm', [('c', examples)])
  np.testing.assert_array_equal(got.examples['x'], X)
  np.testing.assert_array_equal(got.examples['y'], Y)
  data.write_sqlite(tmp_path / 's', [('c', examples)])
  ((_, back),) = data.iterate_sqlite(tmp_path / 's')
  np.testing.assert_array_equal(back['y'], Y)


def test_bfloat16_is_mapped(tmp_path):
  examples = {'x': X.astype(jnp.bfloat16), 'y': Y}
  got = data.write_mapped(tmp_path / 'm', [('c', examples)])
  assert got.examples['x'].dtype == jnp.bfloat16
  np.testing.assert_array_equal(np.float32(got.examples['x']), X)


@pytest.mark.parametrize('call, message', [
    (lambda: data.from_clients({'a': (X, Y)}, ['a']), 'client_ids must not'),
    (lambda: data.from_clients({'a': (X, Y), 'b': (X, Y[:1])}),
     r"client b: examples\['x'\] and .* got 6 and 1"),
    (lambda: data.from_clients(X), 'clients must be a dict'),
    (lambda: data.from_clients({'a': 'xy'}), "got 'xy'"),
    (lambda: data.from_clients({'a': None}), 'got None'),
    (lambda: data.from_clients([(X, Y)], [None]), 'client_ids must name every'),
    (lambda: data.from_clients([(X, Y)], [float('nan')]), 'got nan'),
    (lambda: data.from_clients([(X, Y)], [b'\xff']), 'must be UTF-8'),
    (lambda: data.from_clients([{1: X, 'y': Y}]), 'names in .*text, got 1'),
    (lambda: data.federate({'x': [[1], [2, 3]], 'y': [0, 1]}, [[0, 1]]),
     r"x'\] .*one shape .*\[1\] in example 0 and \[2\] in example 1"),
    (lambda: data.federate({'x': ['a', 'b'], 'y': [0, 1]}, [[0, 1]]),
     r"examples\['x'\] must hold numbers .*such as .*'a'"),
    (lambda: data.federate({'x': [1, None], 'y': [0, 1]}, [[0, 1]]),
     r"examples\['x'\] has no value in example 1"),
    (lambda: data.federate({'x': {1, 2}, 'y': [0, 1]}, [[0, 1]]),
     r"examples\['x'\] must"),
    (lambda: data.federate({'x': X, 'y': Y}, 'iid'), 'must be a list'),
    (lambda: data.federate({'x': X, 'y': Y}, None), 'got a NoneType'),
    (lambda: data.federate((X, Y), [[0], [1]], {'a', 'b'}), 'client_ids must'),
    (lambda: data.federate((X, Y), [[0], [1]], ['a', print]), 'text or'),
    (lambda: data.federate((X, Y), [[0], [1]], ['a', ['b']]), 'text or'),
    (lambda: data.single((np.ma.masked_array(X, X > 3), Y)), 'are masked'),
    (lambda: data.partition.split([1, 2], 0.5, seed=0), 'client 0 must be'),
    (lambda: data.read_leaf(X), 'path must be a path'),
    (lambda: data.read_sqlite(3), 'path must be a path'),
    (lambda: data.open_mapped(None), 'folder must be a path'),
    (lambda: data.write_mapped('/nowhere', 3), 'clients must come one by one'),
    (lambda: data.write_mapped('/nowhere', [3]), 'clients must be pairs'),
    (lambda: data.write_sqlite('/nowhere', [('a', X)]), 'dict of arrays'),
    (lambda: data.from_dataset([(X[0], 1)], client=lambda item: item['who']),
     'client: the function raised TypeError'),
    (lambda: data.tfds(3), 'named by text, got 3'),
    (lambda: data.federate({'x': X, 'y': Y}, [[0, 1.5]]), 'client 0 must be a'),
    (lambda: data.federate({'x': X, 'y': Y}, [[[0], [1, 2]]]), 'client 0 must'),
])
def test_what_is_no_examples_is_named(call, message):
  with pytest.raises(ValueError, match=message):
    call()


@pytest.mark.parametrize('value', [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize('dtype', [
    np.float16, jnp.bfloat16, np.float32, np.float64])
def test_numbers_that_are_not_finite_are_named(tmp_path, value, dtype):
  bad = X.astype(dtype)
  bad[5, 1] = value
  where = rf"x'\] must be finite .*example 2 of client 'b' holds {value}"
  with pytest.raises(ValueError, match=where):
    data.federate({'x': bad, 'y': Y}, list(OF.values()), list(OF))
  with pytest.raises(ValueError, match=where):
    data.from_clients({name: (bad[rows], Y[rows]) for name, rows in OF.items()})
  with pytest.raises(ValueError, match=rf"client b: .*example 2 holds {value}"):
    data.write_mapped(tmp_path / 'm', [
        (name, (bad[rows], Y[rows])) for name, rows in OF.items()])


def test_what_becomes_infinite_in_32_bits_is_named():
  with pytest.raises(ValueError, match="y'.*example 0 of client '0' holds inf"):
    data.single({'x': X, 'y': np.full(6, 1e300)})


def test_what_stands_for_a_missing_value():
  pandas = pytest.importorskip('pandas')
  for value in (None, float('nan'), np.float32('nan'), pandas.NA, pandas.NaT):
    assert examples_lib.is_missing(value)
  for value in (0, '', 'nan', b'', False, np.int32(0)):
    assert not examples_lib.is_missing(value)


# pandas


@pytest.fixture
def frame():
  pandas = pytest.importorskip('pandas')
  return pandas.DataFrame({
      'u': X[:, 0], 'v': X[:, 1].astype(np.int64), 'label': Y, 'who': NAMES,
      'both': list(X), 'number': [2, 1, 2, 3, 1, 2], 'colour': ['red'] * 6,
      'byte': Y.astype(np.uint8), 'flag': Y == 0})


def test_columns_of_numbers(frame):
  got = data.from_dataframe(frame, client='who', x=['u', 'v'], y='label')
  assert_is_the_federation(got)
  assert got.examples['x'].dtype == np.float32
  # Not as pixels, which models would divide by 255.
  columns = data.from_dataframe(frame, client='who', x=['byte'], y='u')
  assert columns.examples['x'].dtype == np.float32


def test_a_column_of_arrays_and_clients_by_number(frame):
  got = data.from_dataframe(frame, client='number', x='both', y='label')
  assert_is_the_federation(got._replace(client_ids=['a', 'b', 'c']))
  assert got.client_ids == ['1', '2', '3']
  frame['number'] = frame['number'].astype(float)
  again = data.from_dataframe(frame, client='number', x='both', y='label')
  assert again.client_ids == ['1', '2', '3']


def test_one_client_and_bools(frame):
  got = data.from_dataframe(frame, x='both', y='flag')
  assert got.client_ids == ['0'] and got.examples['y'].dtype == np.int32
  np.testing.assert_array_equal(got.examples['x'], X)


def test_dtypes_of_pandas_own(frame):
  frame = frame.convert_dtypes()
  got = data.from_dataframe(frame, client='who', x=['u', 'v'], y='label')
  assert_is_the_federation(got)


@pytest.mark.parametrize('change, options, message', [
    (None, {'x': 'uu'}, "x must name one column .*got 'uu'"),
    (None, {'y': 'labels'}, "Did you mean 'label'"),
    (None, {'client': 'whom'}, "client must name .*Did you mean 'who'"),
    (None, {'x': []}, 'at least one column'),
    (None, {'x': ['u', 'both']}, "'both' holds arrays of shape"),
    (None, {'y': 'colour'}, "y: column 'colour' must hold numbers.*'red'"),
    (None, {'x': ['u', 'colour']}, "column 'colour' must hold numbers"),
    (('u', None), {}, "column 'u' has no value in row 2 .*1 of 6"),
    (('label', None), {}, "column 'label' has no value in row 2"),
    (('who', None), {}, 'client_ids .*example 2 has none'),
    (('number', None), {'client': 'number'}, 'client_ids .*example 2 has none'),
    (('both', [1.]), {'x': 'both'}, r'one shape .*\[2\] .*\[1\] in example 2'),
    (('both', None), {'x': 'both'}, "column 'both' has no value in row 2"),
    (('u', np.inf), {}, "x'.*example 1 of client 'b' holds inf"),
])
def test_frames_that_do_not_do(frame, change, options, message):
  if change:
    column, value = change
    values = frame[column].tolist()
    values[2] = value
    frame[column] = values
  options = {'client': 'who', 'x': ['u', 'v'], 'y': 'label'} | options
  with pytest.raises(ValueError, match=message):
    data.from_dataframe(frame, **options)


def test_a_frame_in_the_place_of_examples(frame):
  with pytest.raises(ValueError, match='from_dataframe'):
    data.single(frame)
  with pytest.raises(ValueError, match='df must be a data frame'):
    data.from_dataframe({'x': X}, x='x', y='y')
  got = data.single({'x': frame[['u', 'v']], 'y': frame['label']})
  np.testing.assert_array_equal(got.examples['x'], X)


# Datasets


@pytest.mark.parametrize('make, options', [
    (lambda i: (X[i], Y[i], NAMES[i]), {'client': 2}),
    (lambda i: (Tensor(X[i]), Tensor(Y[i])), {'client': NAMES}),
    (lambda i: (X[i].tolist(), int(Y[i])), {'client': NAMES}),
    (lambda i: {'img': X[i], 'label': Y[i], 'who': NAMES[i]},
     {'client': 'who'}),
    (lambda i: {'a': X[i], 'b': Y[i], 'c': [NAMES[i]]},
     {'x': 'a', 'y': 'b', 'client': lambda item: item['c'][0]}),
    (lambda i: (Y[i], X[i]), {'x': 1, 'y': 0, 'client': NAMES})])
def test_map_style_datasets(make, options):
  assert_is_the_federation(data.from_dataset(MapStyle(make), **options))
  assert_is_the_federation(
      data.from_dataset([make(i) for i in range(6)], **options))


def test_partitions_of_datasets():
  dataset = MapStyle(lambda i: (X[i], Y[i]))
  parts = list(OF.values())
  got = data.from_dataset(dataset, partition=parts)
  assert_is_the_federation(got._replace(client_ids=['a', 'b', 'c']))
  by_labels = data.from_dataset(
      dataset, partition=lambda y: data.partition.shards(y, 3, 1, seed=0))
  assert sorted(by_labels.client(i)['y'].tolist() for i in range(3)) == [
      [0, 0], [1, 1], [2, 2]]
  assert data.from_dataset(dataset).client_ids == ['0']


def test_items_may_be_images_of_pillow():
  pixels = np.arange(6 * 20, dtype=np.uint8).reshape(6, 4, 5)
  got = data.from_dataset(MapStyle(
      lambda i: {'image': Image.fromarray(pixels[i]), 'label': int(Y[i])}))
  assert got.examples['x'].dtype == np.uint8
  np.testing.assert_array_equal(got.examples['x'], pixels)


def test_numbers_as_clients_may_be_tensors():
  got = data.from_dataset(MapStyle(lambda i: (X[i], Y[i], Tensor(i % 2))),
                          client=2)
  assert got.client_ids == ['0', '1']


def test_datasets_of_hugging_face():
  module = pytest.importorskip('datasets')
  dataset = module.Dataset.from_dict(
      {'features': X.tolist(), 'label': Y.tolist(), 'user': NAMES})
  assert_is_the_federation(data.from_dataset(dataset, client='user'))
  assert_is_the_federation(
      data.from_dataset(dataset.with_format('numpy'), client='user'))


def failing(i):
  if i == 4:
    raise OSError('broken image')
  return X[i], Y[i]


@pytest.mark.parametrize('make, options, message', [
    (lambda i: (X[i][:2 - i // 3], Y[i]), {},
     r'x must be of one shape .*\[2\] in example 0 and \[1\] in example 3'),
    (lambda i: (X[i], Y[i:]), {}, r'y must be of one shape'),
    (lambda i: X[i], {}, 'example 0 must be a tuple'),
    (lambda i: (X[i],), {}, 'y must be a position in example 0'),
    (lambda i: (X[i], Y[i]), {'x': 'image'}, "got 'image'"),
    (lambda i: {'x': X[i], 'z': Y[i]}, {}, 'y must name a field of example 0, '
     'which has x, z'),
    (lambda i: (X[i], None), {}, 'y of example 0 must be numbers, got None'),
    (lambda i: (X[i], 'cat'), {}, r"examples\['y'\] must hold numbers"),
    (failing, {}, r"dataset\[4\] can't be read: OSError: broken image"),
    (lambda i: (X[i], Y[i]), {'client': NAMES[:3]}, 'each of the 6 examples'),
    (lambda i: (X[i], Y[i], None), {'client': 2}, 'example 0 has none'),
    (lambda i: (X[i], Y[i]), {'client': NAMES, 'partition': [[0]]}, 'both'),
])
def test_datasets_that_do_not_do(make, options, message):
  with pytest.raises(ValueError, match=message):
    data.from_dataset(MapStyle(make), **options)


@pytest.mark.parametrize('dataset', [
    iter([(X, Y)]), [], {'x': X}, 'text', None, 3])
def test_what_is_no_dataset(dataset):
  with pytest.raises(ValueError, match='dataset must have'):
    data.from_dataset(dataset)


# LEAF


def leaf(users=('a', 'b', 'c'), **changes):
  return {'users': list(users), 'num_samples': [len(OF[u]) for u in users],
          'user_data': {u: {'x': X[OF[u]].tolist(), 'y': Y[OF[u]].tolist()}
                        for u in users}} | changes


def test_files_and_folders_of_leaf(tmp_path):
  (tmp_path / 'all.json').write_text(json.dumps(leaf()))
  assert_is_the_federation(data.read_leaf(tmp_path / 'all.json'))
  folder = tmp_path / 'train'
  folder.mkdir()
  (folder / '1.json').write_text(json.dumps(leaf('c')))
  (folder / '0.json').write_text(json.dumps(leaf('ba')))
  assert_is_the_federation(data.read_leaf(folder), 'bac')


def test_text_of_leaf(tmp_path):
  content = leaf('a')
  content['user_data']['a']['x'] = ['to be', 'or n']
  file = tmp_path / 'a.json'
  file.write_text(json.dumps(content))
  with pytest.raises(ValueError, match="user 'a': x must be numbers.*'to be'"):
    data.read_leaf(file)
  tokens = lambda x, y: ([[ord(c) for c in line[:4]] for line in x], y)
  got = data.read_leaf(file, transform=tokens)
  assert bytes(got.examples['x'][0].tolist()) == b'to b'


@pytest.mark.parametrize('content, message', [
    ('[' * 100_000, 'no JSON'), ('{"users"', 'no JSON'), ([], 'object of LEAF'),
    (leaf() | {'users': 3}, "list 'users'"),
    (leaf(num_samples=[2, 3]), '3 users, 2 counts'),
    (leaf(num_samples=[2, 3, 7]), r"user 'c' must have 7 samples"),
    (leaf(num_samples=[2, 'x', 1]), r"user 'b' must have 'x' samples"),
    (leaf(user_data={}), 'data of 0'),
    (leaf() | {'user_data': leaf()['user_data'] | {'a': 3}}, "'a' must have"),
    (leaf() | {'user_data': leaf()['user_data'] | {
        'a': {'x': [[1, 2], [3]], 'y': [0, 1]}}}, "user 'a': x must be of one"),
])
def test_leaf_of_another_form(tmp_path, content, message):
  file = tmp_path / 'a.json'
  file.write_text(content if isinstance(content, str) else json.dumps(content))
  with pytest.raises(ValueError, match=f'a.json.*{message}'):
    data.read_leaf(file)


def test_leaf_that_is_not_there_or_twice(tmp_path):
  with pytest.raises(ValueError, match='there is none at'):
    data.read_leaf(tmp_path / 'none.json')
  with pytest.raises(ValueError, match='it has none'):
    data.read_leaf(tmp_path)
  for name in '01':
    (tmp_path / f'{name}.json').write_text(json.dumps(leaf('a')))
  with pytest.raises(ValueError, match="user 'a' must not come twice"):
    data.read_leaf(tmp_path)
