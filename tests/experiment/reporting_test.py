import pytest

from fedjax_sim.experiment import closing_time, reporting


@pytest.mark.parametrize('value,text', [
    (0, '0 B'), (999, '999 B'), (1000, '1.0 kB'), (796840, '796.8 kB'),
    (7.5e9, '7.5 GB'), (2e15, '2000.0 TB')])
def test_bytes(value, text):
  assert reporting.byte_text(value) == text


def rows(accuracies):
  return [{'round': i + 1, 'test/accuracy': a, 'test/loss': 1 - a,
           'seconds': 0.1 * (i + 1), 'bytes_up': 10, 'bytes_down': 20}
          for i, a in enumerate(accuracies)]


def test_closing_table():
  # 0.9 is crossed half way between rounds 2 (0.8) and 3 (1.0).
  fields = reporting.closing_fields(
      rows([0.5, 0.8, 1.0, 0.7] + [0.6] * 8), [0.999999, 0.9])
  assert fields['rounds'] == '12'
  assert fields['best test accuracy'] == '1.0000 (round 3)'
  assert fields['final test accuracy'] == '0.6000'
  assert fields['mean of the last ten'].startswith('0.6500')
  assert fields['rounds to 90.0%'] == '2.5'
  assert fields['computing a round'].startswith('0.650 seconds')
  assert (fields['bytes up'], fields['bytes down']) == ('120 B', '240 B')


def test_the_best_of_an_error_is_the_lowest():
  records = rows([0.5, 0.8, 0.2, 0.7])
  for record in records:
    record['test/mae'] = record.pop('test/accuracy')
  fields = reporting.closing_fields(records, [0.6], {'mae': False})
  assert fields['best test mae'] == '0.2000 (round 3)'
  assert not any('accuracy' in name or 'rounds to' in name for name in fields)
  # Nobody said what is better: the loss is told.
  fields = reporting.closing_fields(records, [0.6])
  assert fields['best test loss'] == '0.2000 (round 2)'


def test_a_line_on_clients_is_of_what_there_is():
  found = {'loss/mean': 1.0, 'auc/mean': 0.5, 'auc/p10': None,
           'auc/worst': 0.25, 'auc/clients': 7}
  assert reporting.clients_field(found, {'auc': True}) == {
      "clients' own test auc": 'mean 0.5000, worst 0.2500, of 7 clients'}
  found['accuracy/mean'] = 0.75
  assert reporting.clients_field(found, {'auc': True}) == {
      "clients' own test accuracy": 'mean 0.7500'}


def test_a_target_out_of_reach():
  fields = reporting.closing_fields(rows([0.5]), [0.97])
  assert fields['rounds to 97.0%'] == 'not reached'


def test_plain_lines_for_evaluations_only(capsys):
  progress = reporting.Progress([], 0, 100, targets=[0.9])
  progress.update([{'round': 1, 'train/loss': 1.0},
                   *rows([0.5, 0.95, 0.97])])
  progress.close()
  lines = capsys.readouterr().out.splitlines()
  assert len(lines) == 3
  assert 'test accuracy 0.5000' in lines[0]
  assert [('reached 90.0%' in line) for line in lines] == [False, True, False]


def test_a_target_is_announced_once_also_after_a_resume(capsys):
  earlier = rows([0.5, 0.95])
  progress = reporting.Progress(earlier, 2, 100, targets=[0.9, 0.99])
  progress.update([row | {'round': row['round'] + 2}
                   for row in rows([0.97, 0.995])])
  progress.close()
  lines = capsys.readouterr().out.splitlines()
  assert [line.count('reached') for line in lines] == [0, 1]
  assert 'reached 99.0%' in lines[1]


def test_rounds_to_a_target_after_metrics_were_lost():
  whole = rows([0.5, 0.6, 0.7, 0.8, 0.9, 0.9])
  assert reporting.rounds_to(whole, 0.65) == '2.5'
  assert reporting.rounds_to(whole, 0.95) == 'not reached'
  # It may have been reached in a round that is lost.
  without = lambda *rounds: [r for r in whole if r['round'] not in rounds]
  assert reporting.rounds_to(without(1, 2), 0.65) == (
      'unknown, since metrics of rounds 1 to 2 are lost')
  assert reporting.rounds_to(without(3), 0.65).startswith('unknown')
  assert reporting.rounds_to(without(2, 5), 0.95).startswith('unknown')
  # What is lost afterwards does not matter.
  assert reporting.rounds_to(without(4, 5), 0.65) == '2.5'


def test_the_model_before_training_reaches_nothing():
  initial = {'round': 0, 'test/accuracy': 0.99, 'test/loss': 0.1, 'clients': 0,
             'bytes_up': 0.0, 'bytes_down': 0.0, 'seconds': 9.0}
  trained = rows([0.5, 0.8])
  assert reporting.closing_fields([initial, *trained], [0.7]) == (
      reporting.closing_fields(trained, [0.7]))


def test_the_time_to_the_first_round_is_told_once(capsys, monkeypatch):
  monkeypatch.setattr(reporting.time, 'perf_counter', lambda: 12.34)
  progress = reporting.Progress([], 0, 100, targets=[], begun=10.0)
  for _ in range(2):
    progress.update([{'round': 1, 'train/loss': 1.0}])
  progress.close()
  assert capsys.readouterr().out == 'first round after 2.3 s\n'


def test_closing_table_tells_simulated_time():
  records = rows([0.5, 0.8, 0.9])
  for i, record in enumerate(records):
    record |= {'simulated_seconds': 3600.0 * (i + 1), 'duration': 3600.0,
               'started': 10, 'clients': 8 * (i != 1), 'failed': int(i == 1),
               'lost': i,
               'joules': 1.2e6}
  fields = reporting.closing_fields(records, [0.85, 0.95])
  assert fields['simulated time'] == '3.00 hours'
  assert fields['a simulated round'] == '60.00 minutes (median)'
  assert fields['time to 85.0%'] == '3.00 hours'
  assert fields['time to 95.0%'] == 'not reached'
  assert fields['reports lost'] == '10.0% of 30'
  assert fields['not waited for'] == '6.7% of 30'
  assert fields['of failed rounds'] == '30.0% of 30'
  assert fields['failed rounds'] == '1 of 3'
  assert fields['energy'] == '1.00 kWh'
  assert 'warning' not in fields


def test_closing_table_tells_what_choosing_has_cost():
  records = rows([0.5, 0.8])
  assert 'choosing clients' not in reporting.closing_fields(records, [])
  for record in records:
    record |= {'measured': 6.0, 'bytes_up_selection': 24,
               'bytes_down_selection': 500, 'selection_seconds': 90.0}
  assert reporting.closing_fields(records, [])['choosing clients'] == (
      '12 losses measured, 48 B up, 1.0 kB down (counted above), '
      '3.00 minutes of the simulated time')


def test_closing_table_tells_how_late_reports_were():
  """Those who have begun and are still at work are not lost."""
  records = [
      row | {'simulated_seconds': 1.0, 'duration': 1.0, 'failed': 0,
             'started': 50, 'clients': 4, 'lag/mean': lag, 'lag/max': 2 * lag,
             'lost': 1, 'discarded': discarded}
      for row, lag, discarded in zip(
          rows([0.5, 0.8]), (1.0, 2.0), (0, 2), strict=True)]
  fields = closing_time.fields(records)
  assert fields['lag of reports'] == '1.50 steps on average, 4 at most'
  assert fields['discarded, too old'] == '16.7% of 12'
  assert fields['reports lost'] == '16.7% of 12'
  assert '20% of the reports' in reporting.closing_fields(records, [])[
      'warning']
  assert closing_time.too_old(records[:1]) is None


@pytest.mark.parametrize('joules, text', [
    (47.16, '47.2 J'), (4716, '4.72 kJ'), (3.5e6, '3,500.00 kJ'),
    (7.2e9, '2,000.00 kWh')])
def test_energy(joules, text):
  assert closing_time.energy(joules) == text


def test_failed_rounds_are_told(capsys):
  """They have no loss of training; a record before it is written has NaN."""
  records = [row | {'failed': failed, 'train/loss': float('nan'),
                    'simulated_seconds': 1.0, 'duration': 1.0, 'started': 2,
                    'clients': 0}
             for row, failed in zip(rows([0.1, 0.1]), (1, 1), strict=True)]
  progress = reporting.Progress([], 0, 2, targets=[])
  progress.update([records[0], records[1] | {'failed': 0, 'train/loss': 0.5}])
  progress.close()
  first, second = capsys.readouterr().out.splitlines()
  assert first.endswith('  failed') and 'train' not in first
  assert 'failed' not in second and second.endswith('train loss 0.5000')
  fields = reporting.closing_fields(records, [])
  assert fields['warning'].startswith('all rounds failed')
  records[1]['failed'] = 0
  assert 'warning' not in reporting.closing_fields(records, [])
