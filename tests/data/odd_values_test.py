"""Whatever is put in the place of data, what comes is a ValueError or works."""

import datetime
import decimal
import warnings

import jax
import numpy as np
import pytest
from jax import numpy as jnp

from fedjax_sim import data, models
from fedjax_sim.data.sets import downloads, raw_files
from fedjax_sim.simulation.check_examples import as_set, check_examples

X, Y = np.ones((6, 4), np.float32), np.arange(6) % 3
PARTS = [[0, 1], [2]]
MODEL = models.from_functions(
    lambda key, x: {'w': jnp.zeros((4, 3))}, lambda params, x: x @ params['w'])

ODD = [
    None, 3, 'x', b'x', [], [[]], {}, (), np.float32(3), np.zeros(0),
    np.zeros((6, 0)), np.zeros((0, 4)), [1, 2], ['a'] * 6, [None] * 6, [{}] * 6,
    [[1], [2, 3]], {1, 2}, range(6), iter([1]), object(), print, type,
    np.array(['2020'] * 6, 'datetime64[D]'), X.astype(complex), X > 0,
    jax.random.key(0), jax.random.split(jax.random.key(0), 6), (X, X),
    (X, Y, Y), [datetime.date(2020, 1, 1)] * 6, [decimal.Decimal(1)] * 6,
    [10 ** 30] * 6, [2 ** 40] * 6, [True, 2, 3.5] * 2, np.array(3),
    np.array([1, 'a', None] * 2, object), np.ma.masked_array(X, X > 0),
    X.astype('>f4'), np.zeros(6, [('a', 'i4')]), [[np.ones(4)]] * 6,
    [jnp.ones(4)] * 6, memoryview(b'abcdef'), X.astype(np.float16),
    X.astype(jnp.bfloat16), X * np.nan, np.full((6, 4), 1e300)]

CALLS = {
    'x': lambda v, folder: data.federate({'x': v, 'y': Y}, PARTS),
    'y': lambda v, folder: data.federate((X, v), PARTS),
    'examples': lambda v, folder: data.federate(v, PARTS),
    'partition': lambda v, folder: data.federate((X, Y), v),
    'indices': lambda v, folder: data.federate((X, Y), [v, [1]]),
    'client_ids': lambda v, folder: data.federate((X, Y), PARTS, v),
    'client_id': lambda v, folder: data.federate((X, Y), PARTS, ['a', v]),
    'clients': lambda v, folder: data.from_clients(v),
    'client': lambda v, folder: data.from_clients({'a': (X, Y), 'b': (X, v)}),
    'single': lambda v, folder: data.single(v),
    'dataset': lambda v, folder: data.from_dataset(v),
    'item': lambda v, folder: data.from_dataset([v] * 2),
    'label': lambda v, folder: data.from_dataset([(X[0], v)] * 2),
    'of': lambda v, folder: data.from_dataset([(X[0], 1)] * 2, client=v),
    'parts': lambda v, folder: data.from_dataset([(X[0], 1)], partition=v),
    'frame': lambda v, folder: data.from_dataframe(v, x='a', y='a'),
    'natural': lambda v, folder: data.partition.natural(v),
    'dirichlet': lambda v, folder: data.partition.dirichlet(v, 2, 1., seed=0),
    'summary': lambda v, folder: data.partition.summary(v, v),
    'split': lambda v, folder: data.partition.split(v, 0.5, seed=0),
    'load': lambda v, folder: data.load(v),
    'tfds': lambda v, folder: data.tfds(v, data_dir=v),
    'read_leaf': lambda v, folder: data.read_leaf(v),
    'read_sqlite': lambda v, folder: data.read_sqlite(v),
    'open_mapped': lambda v, folder: data.open_mapped(v),
    'mapped': lambda v, folder: data.write_mapped(folder / 'm', v),
    'mapped client': lambda v, folder: data.write_mapped(
        folder / 'm', [('a', v)]),
    'mapped x': lambda v, folder: data.write_mapped(
        folder / 'm', [('a', {'x': v, 'y': Y})]),
    'sqlite': lambda v, folder: data.write_sqlite(folder / 's', [('a', v)]),
    'test': lambda v, folder: checked(v),
    'test x': lambda v, folder: checked({'x': v, 'y': Y}),
    'test y': lambda v, folder: checked((X, v)),
}


def no_network(url):
  raise raw_files.WayFailed(url)


def checked(value):
  check_examples(MODEL, data.single((X, Y)), {'test': as_set('test', value)})


@pytest.mark.parametrize('name', CALLS)
def test_odd_values(tmp_path, monkeypatch, name):
  monkeypatch.chdir(tmp_path)
  monkeypatch.setenv('TFDS_DATA_DIR', str(tmp_path))
  monkeypatch.setattr(downloads, 'probe', no_network)
  told = 0
  for i, value in enumerate(ODD):
    folder = tmp_path / str(i)
    folder.mkdir()
    with warnings.catch_warnings():
      warnings.simplefilter('ignore')
      try:
        CALLS[name](value, folder)
      except ValueError as error:
        assert str(error), value
        told += 1
  assert told >= len(ODD) / 5
