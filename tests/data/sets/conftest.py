"""A world of small data sets, without a network, for the tests of sources."""

import types

import pytest

from fedjax_sim.data.sets import idx
from tests.data.sets import small_idx


@pytest.fixture(name='world')
def _world(tmp_path, monkeypatch):
  """Two small sets, and a world in which no way leads anywhere yet."""
  for variable in ('FEDJAX_SIM_DATA_DIR', *small_idx.PROXIES):
    monkeypatch.delenv(variable, raising=False)
  monkeypatch.setenv('FEDJAX_SIM_CACHE_DIR', str(tmp_path / 'cache'))
  monkeypatch.setenv('TFDS_DATA_DIR', str(tmp_path / 'tfds'))
  (tmp_path / 'bin').mkdir()
  monkeypatch.setenv('PATH', str(tmp_path / 'bin'))
  small = {name: small_idx.Small(name, seed, tmp_path)
           for seed, name in enumerate(('mnist', 'fashion_mnist'))}
  for name, one in small.items():
    monkeypatch.setitem(idx.SETS, name, one.spec)
  return types.SimpleNamespace(
      mnist=small['mnist'], fashion=small['fashion_mnist'], root=tmp_path)
