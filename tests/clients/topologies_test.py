import numpy as np
import pytest

from fedjax_sim import topologies
from fedjax_sim.core import mixing

GRAPHS = [topologies.ring(), topologies.complete(), topologies.star(),
          topologies.torus(), topologies.random_regular(3, seed=1),
          topologies.random_regular(4)]


@pytest.mark.parametrize('n', [4, 12, 30])
@pytest.mark.parametrize('graph', [*GRAPHS[:4], GRAPHS[4]],
                         ids=lambda graph: getattr(graph, 'name', graph))
def test_weights_are_symmetric_and_doubly_stochastic(graph, n):
  weights = mixing.matrix(graph, n)
  np.testing.assert_array_equal(weights, weights.T)
  np.testing.assert_allclose(weights.sum(axis=1), 1, rtol=1e-12)
  assert (weights >= 0).all()
  assert mixing.is_connected(weights != 0)
  assert 0 < mixing.spectral_gap(weights) <= 1


@pytest.mark.parametrize('n', [5, 12])
def test_the_spectral_gaps_of_known_graphs(n):
  """Of circulant matrices, and of the star's by its eigenvectors."""
  gap = lambda graph: mixing.spectral_gap(mixing.matrix(graph, n))
  assert gap(topologies.complete()) == pytest.approx(1)
  np.testing.assert_allclose(
      gap(topologies.ring()), 2 / 3 * (1 - np.cos(2 * np.pi / n)))
  assert gap(topologies.star()) == pytest.approx(1 / n)


def test_a_torus_is_a_product_of_rings():
  weights = mixing.matrix(topologies.torus(rows=5), 30)
  assert (mixing.links(weights).sum(axis=1) == 4).all()
  rings = [2 * np.cos(2 * np.pi * np.arange(k) / k) for k in (5, 6)]
  want = np.sort(1 / 5 + np.add.outer(*rings).ravel() / 5)
  np.testing.assert_allclose(np.linalg.eigvalsh(weights), want, atol=1e-12)


@pytest.mark.parametrize('n, degree', [(5, 4), (10, 3), (50, 2), (41, 6)])
def test_random_regular_graphs(n, degree):
  one, same, other = (
      topologies.random_regular(degree, seed).make(n) for seed in (0, 0, 1))
  np.testing.assert_array_equal(one, same)
  assert (one.sum(axis=1) == degree).all() and not one.diagonal().any()
  np.testing.assert_array_equal(one, one.T)
  assert mixing.is_connected(one)
  if degree < n - 1:
    assert (one != other).any()


def test_random_regular_graphs_are_expanders():
  """A ring of 200 has a gap of 0.0003; Friedman's bound of the second
  eigenvalue of almost all graphs of degree 4, with weights of 1 / 5, is
  (1 + 2 sqrt(3)) / 5."""
  gap = mixing.spectral_gap(mixing.matrix(topologies.random_regular(4), 200))
  assert gap > 1 - (1 + 2 * np.sqrt(3)) / 5 - 0.03


def test_graphs_of_one_s_own(tmp_path):
  path = [[0, 1, 0], [1, 0, 1], [0, 1, 0]]
  want = [[2 / 3, 1 / 3, 0], [1 / 3, 1 / 3, 1 / 3], [0, 1 / 3, 2 / 3]]
  np.save(tmp_path / 'graph.npy', path)
  for value in (path, np.array(path, bool), str(tmp_path / 'graph.npy')):
    np.testing.assert_allclose(
        mixing.matrix(topologies.given(value), 3), want)
  lazy = np.eye(3) / 2 + np.array(want) / 2
  np.testing.assert_array_equal(
      mixing.matrix(topologies.weighted(lazy), 3), lazy)


# A square whose clients weigh their two neighbours, and not themselves.
SQUARE = np.roll(np.eye(4), 1, 0) / 2 + np.roll(np.eye(4), -1, 0) / 2


def test_models_agree_unless_the_graph_is_two_sided():
  assert mixing.spectral_gap(SQUARE) == pytest.approx(0)
  lazy = (SQUARE + np.eye(4)) / 2
  assert mixing.spectral_gap(mixing.matrix(topologies.weighted(lazy), 4)) > 0
  triangle = (1 - np.eye(3)) / 2  # Has no two sides.
  assert topologies.weighted(triangle).make(3).shape == (3, 3)


@pytest.mark.parametrize('written, message', [
    (None, "'.*/graph.npy', which can't be read: No such file"),
    (b'0 1\n1 0\n', 'as numpy.save writes it, which .* is not'),
    (b'PK\x03\x04', 'as numpy.save writes it, which .* is not'),
])
def test_files_that_hold_no_matrix(tmp_path, written, message):
  path = tmp_path / 'graph.npy'
  if written:
    path.write_bytes(written)
  with pytest.raises(ValueError, match=f'^neighbours must .*{message}') as info:
    topologies.given(str(path))
  assert 'pickle' not in str(info.value)


@pytest.mark.parametrize('make, message', [
    (lambda: topologies.given([[0, 1], [0, 0]]),
     'neighbours must be symmetric, got 1 in row 0, column 1, and 0 in row 1'),
    (lambda: topologies.given([[0, 1], [1, 1]]),
     'neighbours must be 0 or 1.* got 1 in row 1, column 1'),
    (lambda: topologies.given([[0, 2], [2, 0]]), '0 or 1.* got 2 in row 0'),
    (lambda: topologies.given(np.kron(np.eye(2), [[0, 1], [1, 0]])),
     'neighbours must be of a connected graph, .* got none from 0 to 2'),
    (lambda: topologies.given(np.eye(2)[0]), r'neighbours must .*float64 \[2'),
    (lambda: topologies.given([[0, 1], [1]]), 'neighbours must be a symm'),
    (lambda: topologies.weighted([[0.5, np.nan], [0.5, 0.5]]),
     'weights must be finite, got nan in row 0, column 1'),
    (lambda: topologies.weighted([[0.5, 0.5], [0.5, 0.6]]),
     'weights must have rows that add up to 1, got 1.1 in row 1'),
    (lambda: topologies.weighted([[2, -1], [-1, 2]]),
     'weights must not be negative, got -1.0 in row 0, column 1'),
    (lambda: topologies.weighted([[0, 1], [1, 0]]), 'weights must let models'),
    (lambda: topologies.weighted(SQUARE), 'weights must let models agree'),
    (lambda: topologies.random_regular(1), 'degree'),
    (lambda: topologies.random_regular(3, seed=-1), 'seed must be .* got -1'),
    (lambda: topologies.random_regular(3).make(5), 'product must be even'),
    (lambda: topologies.random_regular(6).make(6), 'a degree below'),
    (lambda: topologies.torus().make(7), '7 clients are not, whatever'),
    (lambda: topologies.torus(4).make(10), '10 clients in 4 rows are not'),
])
def test_bad_arguments(make, message):
  with pytest.raises(ValueError, match=message):
    make()
