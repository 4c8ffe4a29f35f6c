"""Where searches begin, what they cost, and in which order they are run."""

import pytest

from benchmarks.paper import __main__ as command
from benchmarks.paper import cells, grid, plan, store
from benchmarks.paper.cells import BY_KEY

NONIID = 'mnist_2nn/noniid/C0.1/E1/B10'


def record(key, rate, state='done', seconds=600.0, seeds=3, crossed=True):
  """A finished cell with five rates, whose best is this one."""
  cell = cells.centered([BY_KEY[key.removesuffix('/centered')]])[
      0] if key.endswith('centered') else BY_KEY[key]
  name = f'{cell.targets[-1]:g}'
  tried = [grid.rate(grid.index(rate) + k) for k in (-2, -1, 0, 1, 2)]
  return {
      'key': key, 'state': state, 'targets': list(cell.targets),
      'seeds': list(range(seeds)), 'seconds': seconds, 'device': 'cpu',
      'rates': {rate: {'rounds': 9} for rate in tried},
      'best_rate': {name: rate},
      'crossings': {name: [9.0 if crossed else None] * seeds}}


def known(*lines):
  return {line['key']: line for line in lines}


def test_a_search_begins_where_cells_like_it_ended():
  wanted = BY_KEY['mnist_2nn/noniid/C1/E1/B10']
  far = record('mnist_2nn/iid/C0.1/E1/Binf', '0.6813')
  assert plan.centre(wanted, {}) == '0.1'
  assert plan.centre(wanted, known(far)) == '0.1'  # Another batch size.
  # The same B; then the same partition too; then several clients a round too.
  like = [record('mnist_2nn/iid/C0.1/E1/B10', '0.4642')]
  assert plan.centre(wanted, known(far, *like)) == '0.4642'
  like += [record('mnist_2nn/noniid/C0/E1/B10', '0.02154')]
  assert plan.centre(wanted, known(far, *like)) == '0.02154'
  like += [record('mnist_2nn/noniid/C0.2/E1/B10', '0.2154')]
  assert plan.centre(wanted, known(far, *like)) == '0.2154'
  # With other seeds the cell itself.
  like += [record(wanted.key, '1', seeds=1)]
  assert plan.centre(wanted, known(far, *like)) == '1'


def test_the_median_is_rounded_down_to_the_coarse_grid():
  wanted = BY_KEY['mnist_2nn/noniid/C1/E1/B10']
  at = lambda *rates: plan.centre(wanted, known(*(
      record(f'mnist_2nn/noniid/C{C}/E1/B10', rate)
      for C, rate in zip((0.1, 0.2, 0.5), rates, strict=False))))
  assert at('0.6813') == '0.4642'  # k = -1; not 1, which is as near.
  assert at('0.1468', '0.2154') == '0.1'  # k = -5 and -4.
  assert at('0.01', '0.2154', '10') == '0.2154'


def test_what_is_unfinished_or_centered_is_no_guide():
  wanted = BY_KEY['mnist_2nn/noniid/C1/E1/B10']
  assert plan.centre(wanted, known(
      record(NONIID, '1', state='partial'))) == '0.1'
  assert plan.centre(wanted, known(record(NONIID, '1', crossed=False))) == '0.1'
  # Only where nothing else has the same batch size.
  centered = record(f'{NONIID}/centered', '0.02154')
  assert plan.centre(wanted, known(centered)) == '0.02154'
  plain = record('mnist_2nn/iid/C0/E1/B10', '1')
  assert plan.centre(wanted, known(centered, plain)) == '1'


def test_the_estimate_of_a_finished_cell_is_what_it_took():
  records = known(record(NONIID, '0.1', seconds=600))
  minutes = lambda key, device='cpu', **work: plan.minutes(
      BY_KEY[key], records, device, **work)
  assert minutes(NONIID) == pytest.approx(10)
  assert minutes(NONIID, seeds=1, rates=10) == pytest.approx(20 / 3)
  # 443 rounds of 50 clients, where that cell has 831 of 10 clients.
  assert minutes('mnist_2nn/noniid/C0.5/E1/B10') == pytest.approx(
      10 * 443 * 50 / (831 * 10))
  # 12,273,152 multiplications an example, not 199,210; 350 rounds.
  assert minutes('mnist_cnn/noniid/C0.1/E1/B10') == pytest.approx(
      10 * 350 / 831 * 12_273_152 / 199_210)
  assert minutes(NONIID, 'a new machine') != minutes(NONIID)


def test_begun_cells_come_first_unless_they_are_long():
  chosen = [BY_KEY[key] for key in (
      'cifar_cnn/iid/C0.1/E5/B50', NONIID, 'mnist_2nn/iid/C0.1/E1/B10',
      'mnist_2nn/noniid/C0.2/E1/B10')]
  records = known(
      record('mnist_2nn/noniid/C0/E1/B10', '0.1', seconds=300),
      record('mnist_2nn/noniid/C0.2/E1/B10', '0.1', 'partial', seconds=240),
      record('cifar_cnn/iid/C0.1/E5/B50', '0.1', 'partial', seconds=60))
  assert [cell.key for cell in plan.order(chosen, records, 'cpu')] == [
      'mnist_2nn/noniid/C0.2/E1/B10', 'mnist_2nn/iid/C0.1/E1/B10', NONIID,
      'cifar_cnn/iid/C0.1/E5/B50']
  (begun,) = [cell for cell in chosen if cell.C == 0.2]
  whole = plan.minutes(begun, records, 'cpu')
  assert plan.minutes_left(begun, records, 'cpu') == pytest.approx(whole - 4)


def test_plan_prints_what_run_takes(tmp_path, monkeypatch, capsys):
  monkeypatch.setattr(store, 'STORE', tmp_path / 'cells.jsonl')
  store.append(store.STORE, record(NONIID, '0.1'))
  command.main(['plan', '--table', '4', '--partition', 'noniid'])
  _, *lines = capsys.readouterr().out.splitlines()
  assert len(lines) == 8  # Of nine cells one is done.
  minutes = [int(line.split()[0]) for line in lines]
  assert minutes == sorted(minutes)
  arguments = dict(zip(*[iter(lines[0].split()[1:])] * 2, strict=True))
  (cell,) = cells.select(
      4, arguments['--model'], arguments['--partition'], arguments['--cell'])
  assert arguments['--pixels'] == cell.pixels
  command.main(['plan', '--table', '4', '--partition', 'noniid',
                '--seeds', '9'])
  assert len(capsys.readouterr().out.splitlines()) == 10
