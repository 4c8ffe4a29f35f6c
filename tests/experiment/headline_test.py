"""What a run is told by, and the best of it."""

import pytest

from fedjax_sim.experiment import headline

RECORDS = [{'round': 0, 'test/auc': 0.9, 'test/loss': 1.0, 'test/own': 3.0},
           {'round': 1, 'test/auc': 0.6, 'test/loss': 2.0, 'test/own': 1.0},
           {'round': 2, 'train/loss': 0.1},
           {'round': 3, 'test/auc': 0.8, 'test/loss': 1.5, 'test/own': 2.0}]


@pytest.mark.parametrize('stated, name, higher, best', [
    ({'auc': True}, 'test/auc', True, 3),
    ({'own': False}, 'test/own', False, 1),
    ({}, 'test/loss', False, 3), ({'mae': False}, 'test/loss', False, 3)])
def test_a_metric_of_a_stated_direction_else_the_loss(
    stated, name, higher, best):
  found = headline.of(RECORDS, stated)
  assert found == headline.Headline(name, higher)
  # Before the first round nothing has been trained.
  tested = found.tested(RECORDS)
  assert [record['round'] for record in tested] == [1, 3]
  values = [record[name] for record in tested]
  assert tested[found.best(values)]['round'] == best


def test_accuracy_comes_first_and_without_tests_there_is_none():
  records = [{'round': 1, 'test/accuracy': 0.1, 'test/f1': 0.2}]
  assert headline.of(records, {'f1': True}).title == 'test accuracy'
  assert headline.of([{'round': 1, 'train/loss': 1.0}], {}) is None
  assert headline.of([{'round': 1, 'test/accuracy': None}], {}) is None
