"""The store under kills and several processes."""

import fcntl
import json
import math
import multiprocessing
import os
import signal
import threading
import time

import pytest

from benchmarks.paper import store

SPAWN = multiprocessing.get_context('spawn')


def record(key='a', **fields):
  return {'key': key, 'state': 'done', **fields}


def test_of_records_that_say_as_much_the_last_counts(tmp_path):
  path = tmp_path / 'deep' / 'cells.jsonl'
  assert store.read(path) == {}
  store.append(path, record('a', seconds=0.1))
  store.append(path, record('b/c'))
  store.append(path, record('a', seconds=0.2))
  assert store.read(path) == {'a': record('a', seconds=0.2),
                              'b/c': record('b/c')}
  assert len(path.read_text().splitlines()) == 2  # The first is replaced.


def test_the_record_counts_that_says_most(tmp_path):
  path = tmp_path / 'cells.jsonl'
  partial = lambda rounds, *seeds: record(
      state='partial', seeds=list(seeds),
      rates={'0.1': {'rounds': rounds}, '1': {'rounds': 1}})
  one, three = record(seeds=[0]), record(seeds=[0, 1, 2])
  for line, counts in (
      (partial(5, 0), partial(5, 0)), (partial(9, 0), partial(9, 0)),
      (partial(2, 0), partial(9, 0)), (one, one),
      (partial(99, 0, 1, 2), one), (three, three), (one, three)):
    store.append(path, line)
    assert store.read(path) == {'a': counts}
  # A line that counts no more is the last one of its seeds, or gone.
  assert path.read_text().splitlines() == list(map(json.dumps, (three, one)))
  assert store.latest(path, 'a', [0, 1, 2]) == three
  assert store.latest(path, 'a', [0]) == one
  assert store.latest(path, 'a', [0, 1]) is None
  assert store.latest(path, 'b', [0]) is None


@pytest.mark.parametrize('kept', range(1, 36, 7))
def test_a_torn_line_is_not_read_and_repaired_by_the_next_append(
    tmp_path, kept):
  path = tmp_path / 'cells.jsonl'
  store.append(path, record('a'))
  whole = path.read_bytes()
  torn = json.dumps(record('a', seconds=7)).encode()
  path.write_bytes(whole + torn[:kept])
  assert store.read(path) == {'a': record('a')}
  store.append(path, record('b'))
  assert path.read_bytes().startswith(whole + b'{"key": "b"')
  assert store.read(path) == {'a': record('a'), 'b': record('b')}


def test_a_store_that_is_only_a_torn_line(tmp_path):
  path = tmp_path / 'cells.jsonl'
  path.write_bytes(b'{"key"')
  assert store.read(path) == {}
  store.append(path, record('b'))
  assert store.read(path) == {'b': record('b')}


def test_a_broken_line_before_the_last_is_an_error(tmp_path):
  path = tmp_path / 'cells.jsonl'
  store.append(path, record('a'))
  path.write_bytes(path.read_bytes() + b'{"key": \n{"key": "b"}\n')
  with pytest.raises(ValueError, match='cells.jsonl, line 2: not a JSON'):
    store.read(path)


@pytest.mark.parametrize('bad, message', [
    ({'state': 'done'}, 'key must be a string, got None'),
    ({'key': 'a', 'state': 'begun'}, "one of done, partial, got 'begun'"),
    (record(seconds=math.nan), 'not JSON compliant')])
def test_a_bad_record_leaves_the_store_as_it_was(tmp_path, bad, message):
  path = tmp_path / 'cells.jsonl'
  store.append(path, record('a'))
  before = path.read_bytes()
  with pytest.raises(ValueError, match=message):
    store.append(path, bad)
  assert path.read_bytes() == before


def test_an_append_waits_for_the_one_before(tmp_path):
  path = tmp_path / 'cells.jsonl'
  store.append(path, record('a'))
  with open(path, 'ab') as other:
    fcntl.flock(other, fcntl.LOCK_EX)
    # In the middle of its line; not to be taken for what a kill left.
    other.write(b'{"key": "b", ')
    other.flush()
    waiting = threading.Thread(target=store.append, args=(path, record('c')))
    waiting.start()
    waiting.join(0.3)
    other.write(b'"state": "done"}\n')
  waiting.join()
  assert list(store.read(path)) == ['a', 'b', 'c']


def append_many(path, name, count):
  for i in range(count):
    # Longer than any buffer, so that a write is not one call by luck.
    store.append(path, record(f'{name}{i}', notes=name * 100_000))


def test_two_processes_append_at_once(tmp_path):
  path = tmp_path / 'cells.jsonl'
  workers = [SPAWN.Process(target=append_many, args=(path, name, 20))
             for name in 'xy']
  for worker in workers:
    worker.start()
  for worker in workers:
    worker.join()
  assert [worker.exitcode for worker in workers] == [0, 0]
  records = store.read(path)
  assert set(records) == {f'{name}{i}' for name in 'xy' for i in range(20)}
  assert all(set(r['notes']) == {key[0]} for key, r in records.items())


def hold(folder, key, started):
  with store.claim(folder, key) as held:
    started.put(held)
    time.sleep(60)


def test_a_claim_excludes_others_and_ends_with_its_process(tmp_path):
  started = SPAWN.Queue()
  holder = SPAWN.Process(target=hold, args=(tmp_path, 'a/b', started))
  holder.start()
  assert started.get(timeout=30)
  with store.claim(tmp_path, 'a/b') as held:
    assert not held
  with store.claim(tmp_path, 'a/c') as held:
    assert held
  os.kill(holder.pid, signal.SIGKILL)
  holder.join()
  with store.claim(tmp_path, 'a/b') as held:
    assert held
    with store.claim(tmp_path, 'a/b') as again:
      assert not again
  with store.claim(tmp_path, 'a/b') as held:
    assert held
