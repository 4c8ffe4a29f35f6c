"""The scripts of docs/migration.md: those that are ours run as they stand."""

import functools
import re

import jax
import numpy as np
import pytest

import fedjax_sim as fs
from benchmarks import migration


@pytest.fixture
def folder(tmp_path, monkeypatch):
  """The current folder, with the page's data."""
  monkeypatch.chdir(tmp_path)
  fs.data.write_sqlite(
      'clients.sqlite', migration.clients(migration.SIZES['order']))


def test_the_loop_and_the_engine_give_the_same(folder, monkeypatch):
  """The order of examples doesn't matter in these data; the seed is free."""
  _, loop, rounds, more = migration.scripts()
  # Lanes don't change results; finding the best takes a while.
  monkeypatch.setattr(fs, 'simulate', functools.partial(
      fs.simulate, devices=1, lanes=2))
  names = {}
  with jax.numpy_rank_promotion('allow'):
    exec(compile(loop, 'loop', 'exec'), names)
    by_loop, start = names['params'], names['initial_params']()
    exec(compile(rounds, 'rounds', 'exec'), names)
    assert migration.difference(by_loop, start) > 0.1
    assert migration.difference(by_loop, names['params']) < 1e-5
    exec(compile(more, 'more', 'exec'), names)
  sizes = np.array(migration.SIZES['order'])
  assert len(names['accuracy']) == len(sizes)
  # A third is chance.
  assert np.average(list(names['accuracy'].values()), weights=sizes) > 0.5


def test_sizes_where_order_does_not_matter_divide_the_batch_size():
  assert all(20 % size == 0 for size in migration.SIZES['order'])


def test_old_and_new_script_share_what_needs_no_change():
  functions = lambda script: dict(re.findall(
      r'def (\w+)(\(.*?)\n\n', script, re.S))
  old, loop = map(functions, migration.scripts()[:2])
  for name in ('initial_params', 'scores', 'loss', 'client_init'):
    assert old[name] == loop[name]
  assert old.keys() < loop.keys()


def test_table_of_the_page():
  found = {'any': {'moved': 1.41, 'for_each_client': 2.44e-7},
           'order': {'moved': 0.8, 'for_each_client': 1e-7, 'engine': 3e-7}}
  assert migration.table(found).splitlines()[2:] == [
      '| clients of 1 to 60 examples | 2.4e-07 | - | 1.4 |',
      '| clients of 1 to 20 examples, sizes that divide 20 | 1e-07 | 3e-07 | '
      '0.8 |']
