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


@pytest.mark.parametrize('make, message', [
    (lambda: topologies.given([[0, 1], [0, 0]]), 'neighbours must be a symm'),
    (lambda: topologies.given([[1, 1], [1, 0]]), 'neighbours must be 0 or 1'),
    (lambda: topologies.given(np.zeros((2, 2))), 'neighbours must be of a con'),
    (lambda: topologies.given(np.eye(2)[0]), 'neighbours must be a symm'),
    (lambda: topologies.weighted([[0.5, 0.4], [0.4, 0.6]]), 'add up to 1'),
    (lambda: topologies.weighted([[2, -1], [-1, 2]]), 'must not be negative'),
    (lambda: topologies.random_regular(1), 'degree'),
    (lambda: topologies.random_regular(3).make(5), 'product must be even'),
    (lambda: topologies.random_regular(6).make(6), 'a degree below'),
    (lambda: topologies.torus().make(7), 'rows=None and 7'),
    (lambda: topologies.torus(4).make(10), 'rows=4 and 10'),
])
def test_bad_arguments(make, message):
  with pytest.raises(ValueError, match=message):
    make()
