"""The search for a learning rate, on functions whose best is known."""

import math

import pytest

from benchmarks.paper import grid


def search(rounds_of, centre=0.1):
  """Runs what the grid asks for, till the end; k -> rounds."""
  results, wanted = {}, grid.first_rates(centre)
  while wanted:
    assert not set(wanted) & set(results), 'asked for twice'
    results |= {rate: rounds_of(grid.index(rate)) for rate in wanted}
    wanted = grid.next_rates(results)
  return {grid.index(rate): rounds for rate, rounds in results.items()}


def test_rates_are_powers_of_the_sixth_root_of_ten():
  assert [grid.rate(k) for k in (-6, -4, 0, 1, 6)] == [
      '0.1', '0.2154', '1', '1.468', '10']
  assert [grid.index(grid.rate(k)) for k in range(-30, 20)] == list(
      range(-30, 20))
  assert grid.index(0.2) is None


@pytest.mark.parametrize('centre, expected', [
    (0.1, ['0.1', '0.04642', '0.2154']),
    # The paper's rate for the word LSTM.
    (18.0, ['21.54', '10', '46.42'])])
def test_the_first_rates_lie_around_the_centre(centre, expected):
  assert grid.first_rates(centre) == expected
  assert grid.first_rates(centre, 1) == expected[:1]


@pytest.mark.parametrize('centre', [0.01, 0.1, 0.4642])
@pytest.mark.parametrize('optimum', range(-20, 10, 3))
def test_a_unimodal_function_is_minimized_on_the_fine_grid(optimum, centre):
  """Wherever the search begins."""
  found = search(lambda k: 100 + (k - optimum) ** 2, centre)
  assert min(found, key=found.get) == optimum
  # Interior: seen from both sides.
  assert {optimum - 1, optimum + 1} <= set(found)


@pytest.mark.parametrize('optimum', [-9, -6, -3, -2])
def test_rates_that_diverge_just_above_the_best_do_no_harm(optimum):
  found = search(
      lambda k: 100 + 10 * (optimum - k) if k <= optimum else math.inf)
  assert min(found, key=found.get) == optimum
  assert found[optimum + 1] == math.inf and optimum - 1 in found


def test_a_single_rate_that_crosses_is_enough():
  found = search(lambda k: 50 if k == -6 else math.inf)
  assert sorted(found) == [-8, -7, -6, -5, -4]


def test_the_search_is_short_where_the_centre_is_good():
  assert sorted(search(lambda k: 100 + (k + 6) ** 2)) == [-8, -7, -6, -5, -4]


def test_nothing_that_crosses_ends_the_search():
  assert sorted(search(lambda k: math.inf)) == list(range(-12, 1, 2))


def test_a_best_rate_at_the_edge_is_not_final():
  assert grid.next_rates({'0.1': 9, '0.04642': 8, '0.2154': 10}) == ['0.02154']


def test_rates_off_the_grid_are_not_looked_at():
  results = {'0.1': 9, '0.04642': 10, '0.2154': 11, '0.2': 1}
  assert grid.next_rates(results) == ['0.06813', '0.1468']


@pytest.mark.parametrize('results', [
    {}, {'0.2': 3}, {'0.1': math.nan}, {'-1': 3}])
def test_bad_results_are_refused(results):
  with pytest.raises(ValueError, match='results must|rate must'):
    grid.next_rates(results)


@pytest.mark.parametrize('centre, count', [(0, 3), (0.1, 2), (0.1, 0)])
def test_bad_beginnings_are_refused(centre, count):
  with pytest.raises(ValueError, match='centre must|count must'):
    grid.first_rates(centre, count)
