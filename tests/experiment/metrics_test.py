"""Rounds to a target by hand, and a metrics file that survives kills."""

import bisect
import errno
import json
import math
import os
import zlib

import jax.numpy as jnp
import numpy as np
import pytest

from fedjax_sim.experiment import metrics

NAN = math.nan


@pytest.mark.parametrize('rounds, values, target, expected', [
    # On the line from (10, 0.5) to (20, 0.9), 0.7 is half way.
    ([10, 20, 30], [0.5, 0.9, 0.8], 0.7, 15.0),
    # The best so far is 0.5, 0.5, 0.9: from (20, 0.5), not from (20, 0.4),
    # which would give 26.
    ([10, 20, 30], [0.5, 0.4, 0.9], 0.7, 25.0),
    # Met exactly at an evaluation.
    ([1, 2, 3], [0.25, 0.5, 0.75], 0.5, 2.0),
    ([1, 2], [0.25, 0.5], 0.5, 2.0),
    # Above from the start: that round, no extrapolation.
    ([5, 6], [0.9, 0.95], 0.8, 5.0),
    ([5, 6], [0.8, 0.95], 0.8, 5.0),
    # The first crossing counts, what comes after doesn't.
    ([1, 2, 3, 4], [0.0, 1.0, 0.0, 1.0], 0.5, 1.5),
    # Never reached; nothing evaluated.
    ([1, 2], [0.5, 0.6], 0.7, None),
    ([], [], 0.7, None),
    # Points without a finite value are as if not evaluated.
    ([1, 2, 3], [0.0, None, 1.0], 0.25, 1.5),
    ([1, 2, 3], [NAN, 0.5, 1.0], 0.25, 2.0),
    ([1, 2, 3], [0.0, math.inf, 1.0], 0.5, 2.0),
    ([1, 2], [NAN, NAN], 0.5, None),
    # A loss, negated: 2, 1.2 reaches 1.5 after 5/8 of the way.
    ([0, 8], [-2.0, -1.2], -1.5, 5.0),
])
def test_rounds_to_target_by_hand(rounds, values, target, expected):
  result = metrics.rounds_to_target(rounds, values, target)
  assert result == (None if expected is None else pytest.approx(expected))


def test_rounds_to_target_inverts_the_monotone_curve():
  rng = np.random.default_rng(0)
  for _ in range(100):
    rounds = np.cumsum(rng.integers(1, 10, 20)).tolist()
    best, values = [], [0.0, *rng.random(19)]
    for value in values:
      best.append(max([value, *best]))
    target = rng.uniform(best[0], best[-1])
    result = metrics.rounds_to_target(rounds, values, target)
    assert np.interp(result, rounds, best) == pytest.approx(target)
    # The curve is flat after a crossing only: just before, it is lower.
    assert np.interp(result - 1e-3, rounds, best) < target
    # The first evaluation at or above the target is the next one.
    reached = rounds[bisect.bisect_left(best, target)]
    assert min(r for r in rounds if r >= result) == reached


@pytest.mark.parametrize('args, message', [
    (([1, 2], [0.5], 0.5), r'one length, got shapes \(2,\) and \(1,\)'),
    (([2, 1], [0.5, 0.6], 0.5), 'increase strictly'),
    (([1, 1], [0.5, 0.6], 0.5), 'increase strictly'),
    (([1], [0.5], NAN), 'target must be finite, got nan'),
])
def test_rounds_to_target_refuses(args, message):
  with pytest.raises(ValueError, match=message):
    metrics.rounds_to_target(*args)


# The file


@pytest.fixture(name='path')
def path_fixture(tmp_path):
  return tmp_path / 'metrics.jsonl'


ROWS = [{'round': 1, 'test/accuracy': 0.1, 'seconds': 1 / 3},
        {'round': 2, 'seconds': 1e-300},
        {'round': 3, 'test/accuracy': 0.1 + 0.2, 'seconds': 5e-324}]


def test_rows_come_back_to_the_bit(path):
  metrics.append(path, ROWS[:2])
  metrics.append(str(path), ROWS[2:])
  assert metrics.read(path) == ROWS
  lines = path.read_text().split('\n')
  plain = [json.loads(line) for line in lines[:-1]]
  for record, line in zip(plain, lines, strict=False):
    start = line.index(', "crc32"')
    assert record.pop('crc32') == zlib.crc32(line[:start].encode())
  assert plain == ROWS and not lines[-1]


def test_any_real_scalar_is_written_as_a_float(path):
  values = {'numpy': np.float32(0.1), 'int': 3, 'zero_d': np.array(2),
            'jax': jnp.float32(0.1), 'big': 2**60}
  metrics.append(path, [{'round': np.int64(4), **values}])
  row, = metrics.read(path)
  assert row == {'round': 4, **{k: float(v) for k, v in values.items()}}
  assert type(row.pop('round')) is int
  assert {type(value) for value in row.values()} == {float}


def test_what_json_lacks_is_null(path):
  row = {'round': 1, 'a': NAN, 'b': math.inf, 'c': -math.inf, 'd': None,
         'e': jnp.float32(NAN)}
  metrics.append(path, [row])
  def refuse(name):
    raise AssertionError(f'{name} is not JSON')
  json.loads(path.read_text(), parse_constant=refuse)
  assert metrics.read(path) == [{'round': 1, **dict.fromkeys('abcde')}]


@pytest.mark.parametrize('row, message', [
    ({'loss': 0.5}, "whole number 'round', got None"),
    ({'round': 1.0}, 'got 1.0'),
    ({'round': True}, 'got True'),
    ({'round': 1, 'loss': 'high'}, "loss must be .* got 'high'"),
    ({'round': 1, 'loss': '1'}, "loss must be .* got '1'"),
    ({'round': 1, 'loss': True}, 'loss must be .* got True'),
    ({'round': 1, 'loss': [0.5]}, 'loss must be'),
    ({'round': 1, 'loss': np.zeros(1)}, 'loss must be'),
    ({'round': 1, 'loss': {'train': 0.5}}, 'loss must be'),
    ({'round': 1, 'loss': 10**400}, 'loss must be'),
    ({'round': 1, 'crc32': 3}, "no field 'crc32'"),
])
def test_bad_rows_are_named_and_nothing_is_written(path, row, message):
  metrics.append(path, ROWS)
  before = path.read_bytes()
  with pytest.raises(ValueError, match=message):
    metrics.append(path, [{'round': 4}, row])
  assert path.read_bytes() == before


def test_append_reaches_the_disk_before_it_returns(path, monkeypatch):
  metrics.append(path, ROWS[:1])
  synced = []
  monkeypatch.setattr(
      os, 'fsync', lambda fd: synced.append(os.fstat(fd).st_size))
  metrics.append(path, ROWS[1:])
  assert synced == [path.stat().st_size]


def cuts(path):
  """Each prefix of a file of ROWS, and the rows that are whole in it."""
  metrics.append(path, ROWS)
  content = path.read_bytes()
  for size in range(len(content) + 1):
    path.write_bytes(content[:size])
    yield content[:size], ROWS[:content[:size].count(b'\n')]


def test_a_cut_off_line_is_not_read(path):
  for _, whole in cuts(path):
    assert metrics.read(path) == whole


def test_append_after_a_cut_off_line(path):
  for prefix, whole in cuts(path):
    metrics.append(path, [{'round': 9}])
    assert metrics.read(path) == whole + [{'round': 9}]
    assert path.read_bytes().startswith(prefix[:prefix.rfind(b'\n') + 1])


def test_truncate_after_a_cut_off_line(path):
  for _, whole in cuts(path):
    metrics.truncate_after(path, 2)
    assert metrics.read(path) == whole[:2]
    assert path.read_bytes().count(b'\n') == len(whole[:2])
    assert not path.read_bytes() or path.read_bytes().endswith(b'\n')


@pytest.mark.parametrize('last, left', [(0, 0), (1, 1), (2, 2), (3, 3), (9, 3)])
def test_truncate_keeps_rounds_up_to_the_given_one(path, last, left):
  metrics.append(path, ROWS)
  lines = path.read_bytes().splitlines(keepends=True)
  metrics.truncate_after(path, last)
  assert path.read_bytes() == b''.join(lines[:left])
  assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_truncate_goes_by_round_not_by_place(path):
  metrics.append(path, [{'round': r} for r in (3, 1, 4, 2)])
  metrics.truncate_after(path, 2)
  assert metrics.read(path) == [{'round': 1}, {'round': 2}]


def test_truncate_is_atomic(path, monkeypatch):
  metrics.append(path, ROWS)
  before = path.read_bytes()
  def killed(source, target):
    assert path.read_bytes() == before
    raise KeyboardInterrupt
  monkeypatch.setattr(os, 'replace', killed)
  with pytest.raises(KeyboardInterrupt):
    metrics.truncate_after(path, 1)
  assert path.read_bytes() == before


def test_a_missing_file(path):
  metrics.truncate_after(path, 3)
  assert not path.exists()
  assert metrics.read(path) == []


@pytest.mark.parametrize('line', [
    b'{"round": 2, "lo', b'', b'[1]', b'3', b'{"loss": 0.5}',
    b'{"round": 2}', b'{"round": 2, "crc32": 1}', b'\xff'])
def test_a_broken_line_is_named_by_read_and_set_aside_by_truncate(path, line):
  metrics.append(path, [{'round': 1}])
  first = path.read_bytes()
  metrics.append(path, [{'round': 3}])
  third = path.read_bytes().removeprefix(first)
  content = first + line + b'\n' + third
  path.write_bytes(content)
  with pytest.raises(ValueError, match=r'metrics\.jsonl, line 2: '):
    metrics.read(path)
  assert path.read_bytes() == content
  assert metrics.truncate_after(path, 9) == [2]
  assert path.read_bytes() == first + third
  assert (path.parent / 'metrics.jsonl.damaged').read_bytes() == content
  assert metrics.missing_rounds(metrics.read(path), 4) == [2, 4]


def test_any_flipped_bit_loses_its_own_records_and_no_other(path):
  """Of two lines, where the bit is in the newline between them.

  Two or three bits of every byte, all those of newlines.
  """
  metrics.append(path, ROWS)
  content = path.read_bytes()
  newlines = [8 * at + bit for at, byte in enumerate(content)
              if byte == ord('\n') for bit in range(8)]
  for place in {*range(0, 8 * len(content), 3), *newlines}:
    flipped = bytearray(content)
    flipped[place // 8] ^= 1 << place % 8
    path.write_bytes(flipped)
    try:
      found = metrics.read(path)
    except ValueError:
      metrics.truncate_after(path, 9)
      found = metrics.read(path)
      assert set(found_rounds := [r['round'] for r in found]) < {1, 2, 3}
      assert len(found_rounds) >= 1
    else:  # The last newline is gone: a line that was cut off.
      assert found == ROWS[:-1] and place // 8 == len(content) - 1
    assert all(record in ROWS for record in found)


@pytest.mark.parametrize('numbers, text', [
    ([4], 'round 4'), ([3, 4, 5, 9], 'rounds 3 to 5, 9'),
    ([1, 3], 'rounds 1, 3')])
def test_ranges(numbers, text):
  assert metrics.ranges(numbers) == text


def test_the_last_round(path):
  assert metrics.last_round(path) == 0
  metrics.append(path, ROWS)
  assert metrics.last_round(path) == 3
  with path.open('ab') as file:
    file.write(b'{"round": 7')
  assert metrics.last_round(path) == 3
  with path.open('ab') as file:
    file.write(b'}\n')
  with pytest.raises(ValueError, match='last line'):
    metrics.last_round(path)


def test_a_full_disk_leaves_the_records_before(path, monkeypatch):
  metrics.append(path, ROWS[:1])
  before = path.read_bytes()
  def full(descriptor):
    raise OSError(errno.ENOSPC, 'No space left on device')
  monkeypatch.setattr(os, 'fsync', full)
  with pytest.raises(OSError, match='No space left on device') as caught:
    metrics.append(path, ROWS[1:])
  assert caught.value.filename == str(path)
  assert path.read_bytes() == before
