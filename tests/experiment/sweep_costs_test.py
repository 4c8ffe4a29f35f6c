"""What a sweep's table tells of costs."""

import pytest

from fedjax_sim.experiment import metrics, sweep_costs, sweep_report


def run(up, down=100, rounds=3, **more):
  """Records of a run whose clients send `up` bytes a round, after round 0."""
  first = {'round': 0, 'bytes_up': 0.0, 'bytes_down': 0.0}
  return [first] + [
      {'round': r, 'bytes_up': up, 'bytes_down': down} | more
      for r in range(1, rounds + 1)]


def test_bytes_are_told_where_they_differ():
  assert sweep_costs.columns([run(500), run(50)]) == {
      'bytes up': ['1.5 kB', '150 B']}
  # The same a round, though one run has ended before.
  assert sweep_costs.columns([run(500), run(500, rounds=2)]) == {}


def test_bytes_are_told_where_they_vary():
  varying = run(500)
  varying[-1]['bytes_down'] = 300
  assert sweep_costs.columns([varying]) == {'bytes down': ['500 B']}


def test_graphs_and_edges():
  ring, edges = (run(5, **{'consensus/spectral_gap': 0.25,
                           'consensus/distance': 1.5}),
                 run(5, bytes_edge_up=0.0))
  edges[-1]['bytes_edge_up'] = 70.0
  assert sweep_costs.columns([ring, edges]) == {
      'bytes edge up': ['-', '70 B'], 'spectral gap': ['0.25', '-'],
      'distance from consensus': ['1.5', '-']}


def test_what_choosing_by_losses_costs():
  """The same in all runs or not; its bytes are a part of all."""
  measuring = run(500, measured=400, bytes_up_selection=16.0,
                  bytes_down_selection=100.0, selection_seconds=20.0)
  hearing = run(500, measured=0, bytes_up_selection=16.0,
                bytes_down_selection=0.0)
  assert sweep_costs.columns([measuring, hearing, run(500)]) == {
      'losses measured': ['1,200', '0', '-'],
      'choosing up': ['48 B', '48 B', '-'],
      'choosing down': ['300 B', '0 B', '-'],
      'choosing time': ['60.00 seconds', '-', '-']}
  assert sweep_costs.columns([hearing, hearing]) == {
      'choosing up': ['48 B', '48 B']}


def test_a_run_that_does_not_tell():
  old = [{'round': r} for r in range(3)]
  assert sweep_costs.columns([run(5), run(6), old, []])['bytes up'] == [
      '15 B', '18 B', '-', '-']


def test_time_and_lost_reports():
  whole = run(5, started=10, clients=10, lost=0, failed=0,
              simulated_seconds=90.0)
  lossy = run(5, started=10, clients=7, lost=2, failed=0,
              simulated_seconds=90.0)
  assert sweep_costs.columns([whole, run(5)]) == {
      'simulated time': ['90.00 seconds', '-']}
  columns = sweep_costs.columns([whole, lossy, run(5)])
  assert columns['reports lost'] == ['0', '20.0% of 30', '-']
  assert columns['not waited for'] == ['0', '10.0% of 30', '-']


@pytest.mark.parametrize('failed, text', [(1, '3, all failed'), (0, '3')])
def test_the_table_has_them(tmp_path, capsys, failed, text):
  for label, up in (('plain', 500), ('small', 50)):
    (tmp_path / label).mkdir()
    metrics.append(tmp_path / label / 'metrics.jsonl', run(up, failed=failed))
  sweep_report.write(tmp_path, {'plain': 'a', 'small': 'b'},
                     {'plain': 3, 'small': 3}, [], held_out=False)
  head, plain, small = capsys.readouterr().out.splitlines()
  assert head.split() == ['run', 'rounds', 'best', 'final', 'bytes', 'up']
  assert plain.endswith('1.5 kB') and small.endswith('150 B')
  assert plain.split('  ')[1].strip() == text
