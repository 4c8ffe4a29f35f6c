"""Best rates, medians and thinned curves."""

import math

import numpy as np
import pytest

from benchmarks.paper import results
from benchmarks.paper.cells import BY_KEY
from fedjax_sim.experiment import metrics

CELL = BY_KEY['mnist_2nn/iid/C0.1/E1/B10']


def outcome(crossings, best_accuracy=(0.9,), stopped='limit', rounds=100):
  return {'rounds': rounds, 'crossings': {'0.97': crossings},
          'stopped': stopped, 'best_accuracy': list(best_accuracy)}


def record(state, **rates):
  rates = {name.replace('_', '.'): value for name, value in rates.items()}
  return {'state': state, 'rates': rates, **results.best(rates, [0.97])}


@pytest.mark.parametrize('crossings, expected', [
    ([3, 1, 2], 2), ([1, None, 2], 2), ([1, None, None], math.inf),
    ([1, None], math.inf), ([1, 2], 1.5), ([], math.inf)])
def test_a_seed_that_does_not_cross_is_infinite(crossings, expected):
  assert results.median(crossings) == expected


def test_the_best_rate_has_the_least_median():
  # Least minimum, least mean of those that crossed, least median.
  found = results.best({
      '0.1': outcome([10, 90, 90]), '0.2': outcome([20, None, None]),
      '0.4': outcome([60, 50, 70])}, [0.97])
  assert found == {'best_rate': {'0.97': '0.4'},
                   'crossings': {'0.97': [60, 50, 70]}}


def test_without_a_crossing_the_most_accurate_that_did_not_diverge():
  found = results.best({
      '0.1': outcome([None], [0.91]), '0.2': outcome([None], [0.92]),
      '0.4': outcome([None], [0.95], 'diverged')}, [0.97])
  assert found['best_rate'] == {'0.97': '0.2'}


def test_each_target_has_its_rate():
  rates = {
      '0.1': outcome([]) | {'crossings': {'0.8': [5], '0.85': [99]}},
      '0.2': outcome([]) | {'crossings': {'0.8': [7], '0.85': [70]}}}
  found = results.best(rates, (0.8, 0.85))
  assert found == {'best_rate': {'0.8': '0.1', '0.85': '0.2'},
                   'crossings': {'0.8': [5], '0.85': [70]}}


@pytest.mark.parametrize('kept, expected', [
    (None, 'not run'),
    (record('done', **{'0_1': outcome([87.34, 80, 112.6])}),
     '87.3 (80 to 113, 3 seeds)'),
    (record('done', **{'0_1': outcome([87.34])}), '87.3 (1 seed)'),
    (record('done', **{'0_1': outcome([87.34, None, 80])}),
     '87.3 (80 to never, 3 seeds)'),
    (record('done', **{'0_1': outcome([None, None], (0.9, 0.9))}),
     'not reached in 100 (2 seeds)'),
    (record('partial', **{'0_1': outcome([87.34])}),
     'at most 87.3 so far (1 seed)'),
    # The rounds of the best rate, not of the other.
    (record('partial', **{'0_1': outcome([None], [0.9], rounds=50),
                          '0_2': outcome([None], [0.8], rounds=1200)}),
     'more than 50 so far (1 seed)'),
    (record('partial', **{'0_1': outcome([None], [0.1], 'diverged')}),
     'every rate diverged so far (1 seed)')])
def test_what_is_said_of_a_cell(kept, expected):
  assert results.text(results.of(CELL, kept, 0.97)) == expected


def test_rounds_of_sgd_are_told_in_updates():
  sgd = BY_KEY['cifar_cnn/central/C1/E1/B100']
  rates = {'0.1': outcome([]) | {'crossings': {'0.8': [181.5]}}}
  kept = {'state': 'done', 'rates': rates, **results.best(rates, [0.8])}
  assert results.of(sgd, kept, 0.8).median == 18150


def test_rates_tried_are_ascending_and_say_which_diverged():
  kept = record('done', **{'10': outcome([None], (0,), 'diverged'),
                           '0_2154': outcome([9]), '2_154': outcome([8])})
  result = results.of(CELL, kept, 0.97)
  assert result.rate == '2.154'
  assert result.tried == ('0.2154', '2.154', '10 diverged')


def test_a_short_curve_is_kept_whole():
  curve = results.thin('0.1', [2, 4, 6], [[0.1, 0.3, 0.2]], [[3, np.nan, 1]])
  assert curve == {
      'rate': '0.1', 'rounds': [2, 4, 6], 'test_accuracy': [[0.1, 0.3, 0.2]],
      'train_loss': [[3.0, None, 1.0]]}


def test_a_thinned_curve_keeps_its_ends_and_its_best_so_far():
  rng = np.random.default_rng(0)
  rounds = np.arange(1, 2001)
  accuracy = 1 - np.exp(-rounds / 300) + rng.normal(0, 0.05, (2, 2000))
  accuracy[0, 40:60] = np.nan
  loss = rng.normal(size=(2, 2000))
  curve = results.thin('0.1', rounds, accuracy, loss)
  kept = np.array(curve['rounds'])
  assert len(kept) == 300 and kept[0] == 1 and kept[-1] == 2000
  assert np.diff(kept).max() - np.diff(kept).min() <= 1
  np.testing.assert_allclose(
      curve['train_loss'], loss[:, kept - 1], rtol=5e-6)
  best = [np.fmax.accumulate(row)[kept - 1] for row in accuracy]
  thinned = np.fmax.accumulate(np.array(curve['test_accuracy'], float), axis=1)
  np.testing.assert_allclose(thinned, best, rtol=5e-6)
  # So a crossing moves by less than a gap between two points.
  for row, small in zip(accuracy, curve['test_accuracy'], strict=True):
    assert metrics.rounds_to_target(kept, small, 0.9) == pytest.approx(
        metrics.rounds_to_target(rounds, row, 0.9), abs=7)


@pytest.mark.parametrize('rounds, columns', [([], 0), ([1, 2], 3)])
def test_curves_of_other_lengths_are_refused(rounds, columns):
  with pytest.raises(ValueError, match='the same R >= 1'):
    results.thin('0.1', rounds, np.zeros((1, columns)), np.zeros((1, columns)))
