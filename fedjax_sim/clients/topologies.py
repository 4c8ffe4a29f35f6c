"""Graphs of clients that talk to each other; NumPy, on the host.

Clients weigh each other by `mixing.metropolis`, unless weights are given.
"""

import math
from collections.abc import Sequence

import numpy as np

from fedjax_sim.clients import matrix_files
from fedjax_sim.core import argument_kinds, checks, mixing, random
from fedjax_sim.core.mixing import Graph

__all__ = ['Graph', 'complete', 'given', 'random_regular', 'ring', 'star',
           'torus', 'weighted']

# Swaps of two edges for each edge: the graph has forgotten where it began.
_SWAPS = 10
_TRIES = 100


def ring() -> Graph:
  """Client i talks to i - 1 and i + 1, modulo N."""
  return Graph('ring', lambda n: _circulant(n, 2))


def complete() -> Graph:
  """Everybody talks to everybody."""
  return Graph('complete', lambda n: ~np.eye(n, dtype=bool))


def star() -> Graph:
  """All talk to client 0 alone."""
  def make(n: int) -> np.ndarray:
    found = np.zeros((n, n), bool)
    found[0, 1:] = found[1:, 0] = True
    return found
  return Graph('star', make)


def torus(rows: int | None = None) -> Graph:
  """A grid whose borders are joined: each talks to four others.

  With two rows or columns some of these are the same client.

  Args:
    rows: of the grid, a divisor of N; None is the one next to a square.
      Client i is in row i // columns.

  Raises:
    ValueError: when it is made for N clients of which there is no such grid of
      at least two rows and columns.
  """
  if rows is not None:
    checks.at_least('rows', rows, 2)

  def make(n: int) -> np.ndarray:
    high = rows or max(r for r in range(1, math.isqrt(n) + 1) if n % r == 0)
    if n % high or not 1 < high < n:
      reason = (f'{n} clients are not, whatever the rows' if rows is None
                else f'{n} clients in {rows} rows are not')
      raise ValueError('graph must be of rows * columns clients to be a torus, '
                       f'both above 1, which {reason}.')
    place = np.arange(n).reshape(high, -1)
    found = np.zeros((n, n), bool)
    for axis in (0, 1):
      other = np.roll(place, 1, axis)
      found[place, other] = found[other, place] = True
    return found
  return Graph('torus', make)


def random_regular(degree: int, seed: int = 0) -> Graph:
  """A random connected graph in which all have as many neighbours.

  It begins with a circulant graph and swaps the ends of random pairs of edges,
  ten times as often as there are edges, until it is connected.

  Args:
    degree: of neighbours, at least 2.
    seed: of the graph; in a config that of the run, unless it is given.

  Raises:
    ValueError: an argument is out of range; when it is made for N clients, that
      N <= degree or N * degree is odd.
  """
  checks.at_least('degree', degree, 2)
  random.seed('seed', seed)

  def make(n: int) -> np.ndarray:
    if degree >= n or degree * n % 2:
      raise ValueError(
          'graph must have a degree below the number of clients to be regular, '
          f'and their product must be even, got {degree} and {n} clients.')
    found, rng = _circulant(n, degree), np.random.default_rng(seed)
    for _ in range(_TRIES):
      _swap_edges(found, rng)
      if mixing.is_connected(found):
        return found
    raise ValueError(f'graph must be connected, which one of {n} clients and '
                     f'degree {degree} was not in {_TRIES} tries; take a '
                     'larger degree.')
  return Graph(f'random_regular({degree}, seed={seed})', make)


def given(neighbours: Sequence[Sequence[int]] | np.ndarray | str) -> Graph:
  """A graph of one's own, with Metropolis weights.

  Args:
    neighbours: 0 or 1 [N, N], symmetric, with zeros on the diagonal: who talks
      to whom; or the path of a .npy file with it.

  Raises:
    ValueError: it is something else, or not connected.
  """
  found = matrix_files.read('neighbours', neighbours)
  valid = np.where(np.eye(len(found), dtype=bool), found == 0,
                   np.isin(found, (0, 1)))
  matrix_files.check_entries('neighbours', found, valid,
                             'be 0 or 1, and 0 on the diagonal')
  return _fixed('given', 'neighbours', found.astype(bool))


def weighted(weights: Sequence[Sequence[float]] | np.ndarray | str) -> Graph:
  """A mixing matrix of one's own.

  Args:
    weights: float [N, N], symmetric, not negative, with rows that add up to
      one; or the path of a .npy file with it.

  Raises:
    ValueError: it is something else, its graph is not connected, or with these
      weights models never agree.
  """
  found = matrix_files.read('weights', weights).astype(np.float64)
  matrix_files.check_entries('weights', found, found >= 0, 'not be negative')
  sums = found.sum(axis=1)
  row = int(np.argmax(np.abs(sums - 1)))
  if abs(sums[row] - 1) > 1e-6:
    raise ValueError('weights must have rows that add up to 1, got '
                     f'{sums[row]:.7g} in row {row}.')
  graph = _fixed('weighted', 'weights', found)
  if mixing.is_two_sided(found != 0):
    raise ValueError(
        'weights must let models agree, which they never do where clients only '
        'weigh those of another group, and these only them: the spectral gap '
        'is 0. Some must weigh themselves too, as in (W + identity) / 2.')
  return graph


def _circulant(n: int, degree: int) -> np.ndarray:
  """Each talks to the next degree / 2 on both sides, and if odd across."""
  steps = [*range(1, degree // 2 + 1), *([n // 2] if degree % 2 else [])]
  found, place = np.zeros((n, n), bool), np.arange(n)
  for step in steps:
    other = (place + step) % n
    found[place, other] = found[other, place] = True
  np.fill_diagonal(found, False)
  return found


def _swap_edges(found: np.ndarray, rng: np.random.Generator) -> None:
  """Edges a-b and c-d become a-d and c-b, where none of these is there yet."""
  edges = np.argwhere(np.triu(found))
  for i, j in rng.integers(len(edges), size=(_SWAPS * len(edges), 2)):
    (a, b), (c, d) = edges[i], rng.permutation(edges[j])
    if len({a, b, c, d}) < 4 or found[a, d] or found[c, b]:
      continue
    found[a, b] = found[b, a] = found[c, d] = found[d, c] = False
    found[a, d] = found[d, a] = found[c, b] = found[b, c] = True
    edges[i], edges[j] = (a, d), (c, b)


def _fixed(name: str, argument: str, matrix: np.ndarray) -> Graph:
  """The graph of these clients."""
  reached = mixing.reached(matrix != 0)
  if not reached.all():
    raise ValueError(
        f'{argument} must be of a connected graph, in which there is a way '
        'from each client to each, got none from 0 to '
        f'{np.argmin(reached)}.')

  def make(n: int) -> np.ndarray:
    if n != len(matrix):
      raise ValueError(f'graph must have the {argument} of all {n} clients, '
                       f'got those of {len(matrix)}.')
    return matrix
  return Graph(name, make)


argument_kinds.check_public(globals())
