"""Messages of chains are written as they are counted, and read again."""

import numpy as np
import pytest

from benchmarks.bits import __main__ as bits
from benchmarks.bits.wires import WIRES, floats

RNG = np.random.default_rng(0)
# Heavy tails, and a leaf that is not a power of two.
UPDATE = {'b': RNG.normal(size=40).astype(np.float32),
          'w': (RNG.normal(size=(50, 70)) ** 3).astype(np.float32)}
_ALWAYS = {'top_k(0.01) | quantize(4)', 'qsgd(15, coder="entropy")',
           'rotate | subsample(0.25) | quantize(2)', 'drive'}


@pytest.mark.parametrize('spec', [
    spec if spec in _ALWAYS else pytest.param(spec, marks=pytest.mark.slow)
    for spec in WIRES])
def test_what_is_counted_is_written_and_read_again(spec):
  """Within 1%, and two words of 32 bits for each arithmetic code."""
  if 'entropy' in spec:
    pytest.importorskip('constriction')
  found = bits.measure(spec, WIRES[spec], UPDATE)
  room = 16 if 'entropy' in spec else 1
  assert abs(found['counted_bytes'] - found['written_bytes']) <= (
      0.01 * found['written_bytes'] + room)


def test_a_wire_that_reads_something_else_is_found_out():
  wrong = floats()._replace(read=lambda reader, sent: 1.01 * reader.floats(
      len(sent.values)))
  with pytest.raises(ValueError, match='what is read is 0.0'):
    bits.measure('identity', wrong, UPDATE)


def test_results_are_within_a_percent_and_on_the_page():
  results = bits.read()
  assert [one['spec'] for one in results] == list(WIRES)
  for one in results:
    assert one['counted_bytes'] == pytest.approx(
        one['written_bytes'], rel=0.01), one['spec']
  assert bits.report() == bits.PAGE.read_text()
