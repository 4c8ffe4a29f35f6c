"""Converts FedScale's device traces to a table that `systems.table` reads.

    python -m fedjax_sim.systems.fedscale client_device_capacity \\
        client_behave_trace devices.npz --batch_size=20

FedScale (Lai et al., 2022) keeps two pickled dicts, by client id:

    client_device_capacity: {'computation': ms to infer one example,
                             'communication': kbit a second, both ways}
    client_behave_trace:    {'active': [s], 'inactive': [s], 'finish_time': s,
                             'duration': s, 'model': text}

A client is active from active[i] to inactive[i], which repeats every
finish_time. As in FedScale training takes three times as long as inference, a
kbit is 1024 bits, and the k-th client has the k-th capacity and the k-th
behaviour, from the first again where these are fewer.
"""

import argparse
import io
import pickle
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fedjax_sim.core import checks, files

_TRAINING = 3.0  # Times as long as inference.
_KBIT = 1024.0


class _PlainUnpickler(pickle.Unpickler):
  """Of dicts, lists, numbers and text; a pickle could run anything else."""

  def find_class(self, module, name):
    raise ValueError(f'it names {module}.{name}, where only numbers, text, '
                     'lists and dicts may be')


def read(path: str) -> dict[Any, Any]:
  """A pickled dict.

  Raises:
    ValueError: it can't be read, or holds something else.
  """
  try:
    with open(path, 'rb') as file:
      found = _PlainUnpickler(io.BytesIO(file.read())).load()
  except Exception as error:  # A damaged pickle raises whatever it likes.
    raise ValueError(f'{path} is not a pickled dict: {error}.') from error
  if not isinstance(found, dict) or not found:
    raise ValueError(f'{path} must hold a dict with entries, got '
                     f'{checks.shown(found)}.')
  return found


def converted(
    capacity: Mapping[Any, Mapping], behaviour: Mapping[Any, Mapping] | None,
    batch_size: int,
) -> dict[str, np.ndarray]:
  """The columns of a table; see `device_tables`.

  Args:
    capacity: what `client_device_capacity` holds.
    behaviour: what `client_behave_trace` holds, None for always eligible.
    batch_size: examples of a local step.

  Raises:
    ValueError: an entry lacks a field or has a wrong value.
  """
  checks.positive_int('batch_size', batch_size)
  devices = list(capacity.items())
  column = lambda name: np.array([
      _positive(key, name, one) for key, one in devices])
  rate = column('communication') * _KBIT
  columns = {
      'step_seconds': column('computation') / 1000 * _TRAINING * batch_size,
      'down_bps': rate, 'up_bps': rate}
  if behaviour is None:
    return columns
  behaviours = list(behaviour.items())
  periods, rows, starts, ends = [], [], [], []
  for row in range(len(devices)):
    key, one = behaviours[row % len(behaviours)]
    period = _positive(key, 'finish_time', one)
    periods.append(period)
    for start, end in _intervals(key, one, period):
      rows.append(row)
      starts.append(start)
      ends.append(end)
  return columns | {
      'period': np.array(periods), 'client': np.array(rows, np.int64),
      'start': np.array(starts, float), 'end': np.array(ends, float)}


def _positive(key: Any, name: str, one: Mapping) -> float:
  value = one.get(name)
  if not checks.is_number(value) or not 0 < value < np.inf:
    raise ValueError(f'{name} of client {key} must be positive, got '
                     f'{checks.shown(value)}.')
  return float(value)


def _intervals(
    key: Any, one: Mapping, period: float
) -> list[tuple[float, float]]:
  """Those of a length, within the period."""
  active, inactive = one.get('active', ()), one.get('inactive', ())
  if len(active) != len(inactive):
    raise ValueError(
        f'active and inactive of client {key} must have the same length, got '
        f'{len(active)} and {len(inactive)}.')
  pairs = [(max(0.0, float(start)), min(float(end), period))
           for start, end in zip(active, inactive, strict=True)]
  return [(start, end) for start, end in pairs if end > start]


def main(arguments: Sequence[str] | None = None) -> None:
  """Reads the traces and writes the table."""
  parser = argparse.ArgumentParser(
      prog='python -m fedjax_sim.systems.fedscale',
      description='Converts FedScale\'s device traces to an npz table.')
  parser.add_argument('capacity', help='client_device_capacity')
  parser.add_argument('behaviour', help="client_behave_trace, or '' for none")
  parser.add_argument('output', help='the .npz file to write')
  parser.add_argument('--batch_size', type=int, required=True,
                      help='examples of a local step')
  given = parser.parse_args(arguments)
  try:
    if not given.output.endswith('.npz'):
      raise ValueError(f'output must end with .npz, got {given.output!r}.')
    columns = converted(
        read(given.capacity), read(given.behaviour) if given.behaviour
        else None, given.batch_size)
    with files.replacing(given.output) as file:
      np.savez_compressed(file, **columns)
  except ValueError as error:
    parser.error(str(error))
  print(f"{given.output}: {len(columns['step_seconds'])} devices, "
        f"{len(columns.get('start', ()))} intervals")


if __name__ == '__main__':
  main()
