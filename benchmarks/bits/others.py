"""How FedJAX counts the bits of the same message, as arithmetic.

Of version 0.0.16, `fedjax/aggregators/compression.py`: the parameters times
log2 of the levels, plus two floats for each leaf.
"""

import math
from typing import Any, NamedTuple


class Count(NamedTuple):
  """One of its quantizers.

  Attributes:
    name: what FedJAX calls it.
    spec: ours that sends the same.
    bits: that it counts for a parameter.
    why: what is different.
  """

  name: str
  spec: str
  bits: float
  why: str


COUNTS = (
    Count('uniform_stochastic_quantizer(4)', 'quantize(2)', 2.0,
          'nothing: 2 bits a weight and two floats a leaf'),
    Count('rotated_uniform_stochastic_quantizer(4)', 'rotate | quantize(2)',
          2.0, 'leaves are rotated padded to a power of two, and counted '
          'unpadded'),
    Count('structured_drive_quantizer', 'drive', 1.0,
          'padded leaves counted unpadded; two floats a leaf, where DRIVE '
          'sends one'),
    Count('terngrad_quantizer', 'terngrad', math.log2(3),
          'log2 3 bits a weight, which no packing of digits attains; two '
          'floats a leaf, where TernGrad sends one'),
)


def table(results: list[dict[str, Any]]) -> str:
  """In Markdown: FedJAX's counts beside what is written."""
  by_spec = {r['spec']: r for r in results}
  lines = ['| FedJAX | counts, bytes | ours | written, bytes | FedJAX over '
           'written | because |', '|---|---:|---|---:|---:|---|']
  for count in COUNTS:
    ours = by_spec[count.spec]
    counted = (count.bits * ours['parameters'] + 64 * len(ours['sizes'])) / 8
    spec = count.spec.replace('|', '\\|')
    lines.append(
        f'| `{count.name}` | {math.ceil(counted):,} | `{spec}` '
        f'| {ours["written_bytes"]:,} | {counted / ours["written_bytes"]:.3f} '
        f'| {count.why} |')
  return '\n'.join(lines)
