"""TFRecord files, read without TensorFlow.

A record is its length (uint64, little-endian), a checksum of these eight
bytes, the data, and a checksum of the data. Checksums are CRC-32C, masked:
rotated right by 15 bits, plus a constant (TensorFlow's
`core/lib/io/record_writer.h` and `core/lib/hash/crc32c.h`).
"""

import itertools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

_POLYNOMIAL = 0x82F63B78  # Castagnoli's, bits reversed.
_MASK = 0xA282EAD8
_GROUP = 1024  # Records whose checksums are computed side by side.


def read(path: Path) -> Iterator[bytes]:
  """The records of a file, in order.

  Raises:
    ValueError: naming the record that is cut off or damaged.
  """
  with open(path, 'rb') as file:
    numbered = enumerate(_frames(path, file))
    while group := list(itertools.islice(numbered, _GROUP)):
      records = [data for _, (data, _) in group]
      stored = np.array([crc for _, (_, crc) in group], np.uint32)
      wrong = np.flatnonzero(masked_crc32c(records) != stored)
      if len(wrong):
        raise ValueError(f'{path}: record {group[wrong[0]][0]} is damaged: its '
                         'checksum is another.')
      yield from records


def _frames(path: Path, file: BinaryIO) -> Iterator[tuple[bytes, int]]:
  """(data, its stored checksum) of each record."""
  left = os.fstat(file.fileno()).st_size
  for number in itertools.count():
    header = file.read(12)
    if not header:
      return
    length = int.from_bytes(header[:8], 'little')
    left -= 16 + length
    # What a length claims is not allocated before it is known to be there. Its
    # own checksum is left out: a wrong length makes the data's wrong.
    if len(header) < 12 or left < 0:
      raise ValueError(f'{path}: record {number} is cut off or damaged: its '
                       f'header says {length:,} bytes.')
    data = file.read(length)
    yield data, int.from_bytes(file.read(4), 'little')


def _make_table() -> np.ndarray:
  table = np.arange(256, dtype=np.uint32)
  for _ in range(8):
    table = np.where(table & 1, (table >> 1) ^ np.uint32(_POLYNOMIAL),
                     table >> 1).astype(np.uint32)
  return table


_TABLE = _make_table()


def masked_crc32c(records: list[bytes]) -> np.ndarray:
  """uint32 [n]: the checksums of n records, byte by byte for all at once."""
  order = sorted(range(len(records)), key=lambda i: -len(records[i]))
  lengths = np.array([len(records[i]) for i in order])
  # Byte j of all records that have one, the longest records first.
  crc = np.full(len(records), 0xFFFFFFFF, np.uint32)
  for start in range(0, int(lengths.max(initial=0)), 4096):
    count = int(np.searchsorted(-lengths, -start, side='left'))
    block = np.zeros((4096, count), np.uint8)
    for column, i in enumerate(order[:count]):
      piece = np.frombuffer(records[i], np.uint8)[start:start + 4096]
      block[:len(piece), column] = piece
    for j in range(min(4096, int(lengths[0]) - start)):
      n = int(np.searchsorted(-lengths, -(start + j), side='left'))
      low = (crc[:n] ^ block[j, :n]) & np.uint32(0xFF)
      crc[:n] = _TABLE[low] ^ (crc[:n] >> np.uint32(8))
  crc = ~crc
  masked = ((crc >> np.uint32(15)) | (crc << np.uint32(17))) + np.uint32(_MASK)
  result = np.empty_like(masked)
  result[order] = masked
  return result
