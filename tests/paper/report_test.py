"""The page and the figures of a small store written by hand."""

import json
import re

import numpy as np
import pytest
from matplotlib import image

from benchmarks.paper import __main__ as command
from benchmarks.paper import figures, report, results, store, summary, tables
from benchmarks.paper.cells import BY_KEY


def record(key, crossings, state='done', rounds=200, curve=True):
  """A record whose best rate is 0.1, with 0.2154 tried too."""
  cell = BY_KEY[key]
  names = [results.target_name(t) for t in cell.targets]
  seeds = len(crossings[0])
  worse = {name: [None] * seeds for name in names}
  rates = {
      '0.1': {'rounds': rounds, 'stopped': 'reached',
              'crossings': dict(zip(names, crossings, strict=True)),
              'best_accuracy': [0.98] * seeds},
      '0.2154': {'rounds': rounds, 'stopped': 'diverged', 'crossings': worse,
                 'best_accuracy': [0.1] * seeds}}
  points = np.arange(1, rounds + 1)
  accuracy = [1 - 0.5 / (points + seed) for seed in range(seeds)]
  return {
      'key': key, 'tables': list(cell.published), 'state': state,
      'seeds': list(range(seeds)), 'rates': rates,
      **results.best(rates, cell.targets),
      'curve': results.thin('0.1', points, accuracy, [1 / points] * seeds)
      if curve else {},
      'seconds': 1800.0, 'device': 'cpu: some machine', 'commit': 'ab' * 20,
      'versions': {'jax': '0.10.2'}, 'date': '2026-11-21', 'notes': ''}


@pytest.fixture(name='path')
def path_fixture(tmp_path):
  """FedSGD and two FedAvg cells of the 2NN, one begun, one of CIFAR-10."""
  path = tmp_path / 'cells.jsonl'
  for line in (
      record('mnist_2nn/iid/C0.1/E1/Binf', [[900, 734, 500]], rounds=900),
      record('mnist_2nn/iid/C0.1/E1/B10', [[50, 46, 44.04]]),
      record('mnist_2nn/iid/C0.1/E1/B10', [[92]]) | {
          'key': 'mnist_2nn/iid/C0.1/E1/B10/centered'},
      record('mnist_2nn/noniid/C0.1/E1/B10', [[None]], 'partial', rounds=70),
      record('cifar_cnn/iid/C0.1/E5/B50', [[140], [300], [None]], 'done')):
    store.append(path, line)
  return path


@pytest.fixture(name='page')
def page_fixture(path, tmp_path):
  notes = tmp_path / 'notes.md'
  notes.write_text('# How ours is computed\n\n- Our weights start elsewhere.\n'
                   '# What agrees\n\nThis.\n')
  return report.write(path, tmp_path / 'docs', notes)


def fields(page, heading, label):
  """The fields of a row of the first table below a heading that has it."""
  text = page.read_text()
  text = text[text.index(heading):]
  row = next(line for line in text.splitlines() if line.startswith(label))
  return [field.strip() for field in row.strip('|').split('|')]


def test_a_version_that_is_not_known_is_left_out(path, tmp_path):
  line = record('mnist_2nn/iid/C0.1/E1/B50', [[60]])
  store.append(path, line | {'versions': {'fedjax_sim': None, 'flax': '7'}})
  notes = tmp_path / 'notes.md'
  notes.write_text('')
  page = report.write(path, tmp_path / 'docs', notes).read_text()
  assert '| flax 7 |' in page and 'fedjax_sim None' not in page


def test_ours_beside_the_papers(page):
  # 46 / 92 = 0.5; FedSGD: 734 / 1468 = 0.5; 1468 / 92 and 734 / 46 = 15.96.
  heading = '**MNIST 2NN, 97%, IID.** Speedups over FedSGD.'
  assert fields(page, heading, '| 1, 10 ') == [
      '1, 10', '60', '92', '46 (44.0 to 50, 3 seeds)', '0.50', '16.0×', '16.0×',
      '0.1', '92 (1 seed)', '1.00']
  assert fields(page, heading, '| FedSGD: 1, ∞ ') == [
      'FedSGD: 1, ∞', '1', '1,468', '734 (500 to 900, 3 seeds)', '0.50', '1.0×',
      '1.0×', '0.1', '-', '-']
  # Table 1 has another figure for the same cell: 46 / 87; 316 / 87.
  row = fields(page, '**MNIST 2NN, 97%, IID, E = 1, B = 10.**', '| 0.1 ')
  assert row[2] == '87' and row[4:6] == ['0.53', '3.6×']
  assert row[6] == '-'  # C = 0, its base, was not run.


def test_only_blocks_with_centered_pixels_have_their_columns(page):
  text = page.read_text()
  block = text[text.index('**MNIST 2NN, 97%, IID, E = 1, B = ∞.**'):]
  assert 'centered' not in block.split('**MNIST')[1]
  assert text.count('| centered pixels | / paper |') == 2


def test_what_is_missing_is_named_below_or_folded_away(page):
  text = page.read_text()
  block = text[text.index('**MNIST 2NN, 97%, IID.**'):].split('\n\n')[2]
  assert block.startswith("Not finished, with the paper's figure: 10, ∞ (156)")
  assert '; 20, 50 (39); ' in block
  block = text[text.index('**MNIST 2NN, 97%, IID, E = 1, B = ∞.**'):]
  assert '0.5 (not reached); 1 (not reached).' in block.split('\n\n')[2]
  assert '**MNIST 2NN, 97%, non-IID.**' not in text
  folded = text[text.index('## Table 4'):].split('<details>')[1]
  assert folded.startswith(
      "\n<summary>Not finished: 9 rows, and the paper's figures</summary>\n\n"
      '- MNIST 2NN, 97%, non-IID. E, B: FedSGD: 1, ∞ (1,817); ')
  assert '; 1, 10 (831, ours more than 70 so far (1 seed)); ' in folded
  assert text.count('<details>') == text.count('</details>') == 5


def test_each_target_of_cifar_is_a_row(page):
  rows = [fields(page, f'**CIFAR-10 CNN, {t}%', '| FedAvg') for t in
          (80, 82, 85)]
  assert [row[2] for row in rows] == ['280', '630', '2,000']
  assert [row[5] for row in rows] == ['64.3×', '49.2×', '49.5×']
  assert [row[3] for row in rows] == [
      '140 (1 seed)', '300 (1 seed)', 'not reached in 200 (1 seed)']
  assert [row[4] for row in rows] == ['0.50', '0.48', '-']


def test_every_published_cell_is_told_once_and_the_counts_are_right(page):
  text = page.read_text()
  tables_text = text[text.index('## Table 1'):text.index('## Figures')]
  rows = re.findall(r'^\| .* \|$', tables_text, re.M)
  computed = [row for row in rows if 'ours / paper' not in row]
  # FedSGD and E = 1, B = 10 are in tables 1 and 4.
  assert len(computed) == 7
  missing = re.findall(
      r' \(([\d,]+|not reached)(?:, ours [^;]*)?\)(?=[;.])', tables_text)
  assert len(missing) == 97 - 7
  # Ratios: 734 / 1474, 734 / 1468, 46 / 87, 46 / 92, 0.5, 0.48: none within.
  assert ('Of the 97 rows of the tables 7 are finished, 2 begun and 88 not run.'
          ' 6 have a figure in both; of these, 0 lie within') in text
  # 92 rounds in tables 4 and 1, where the paper has 92 and 87.
  assert ('2 are computed with centered pixels too; of these, 2 lie within a '
          'factor of 1.5') in text


def test_ratios_are_told_by_model_and_partition(page):
  # 0.498, 0.5, 0.529, 0.5; 92 / 87 and 92 / 92.
  assert fields(page, '## Summary', '| MNIST 2NN, IID') == [
      'MNIST 2NN, IID', '19', '4', '0.50 (0.50 to 0.53), 4 rows',
      '1.03 (1.00 to 1.06), 2 rows']
  assert fields(page, '## Summary', '| CIFAR-10 CNN, IID')[2:] == [
      '3', '0.49 (0.48 to 0.50), 2 rows', '-']
  assert 'Nothing is finished of MNIST 2NN non-IID (19 rows), ' in (
      page.read_text())


def records_of(crossings):
  return {key: record(key, [values]) for key, values in crossings.items()}


def test_orders_are_those_of_pairs_within_a_block():
  # The paper has 92 in both; 45; 34 rounds.
  records = records_of({
      'mnist_2nn/iid/C0.1/E1/B10': [30], 'mnist_2nn/iid/C0.1/E20/Binf': [50],
      'mnist_2nn/iid/C0.1/E10/B50': [40], 'mnist_2nn/iid/C0.1/E10/B10': [35]})
  # 30 < 40 and 30 < 35 are the other way round; 92 and 92 are no pair.
  assert summary.orders(records) == (3, 5)
  assert summary.order_sentence(records) == [
      'Of 5 pairs of finished rows of one block whose figures in the '
      'paper are more than a tenth apart, ours are in the same order in 3.']


def test_speedups_need_the_first_row():
  # 1468 / 92 = 15.96 in the paper; 400 / 50 = 8 in ours. Non-IID 1817 / 1183.
  records = records_of({
      'mnist_2nn/iid/C0.1/E1/Binf': [400], 'mnist_2nn/iid/C0.1/E1/B10': [50],
      'mnist_2nn/noniid/C0.1/E1/B50': [100]})
  assert summary.speedups(records) == {
      ('FedSGD', 'IID'): [pytest.approx(8 * 92 / 1468)]}
  (text,) = summary.speedup_table(records)
  assert text.splitlines()[2:] == ['| FedSGD | IID | 0.50, one row |']
  assert summary.speedup_table({}) == summary.order_sentence({}) == []


def test_sections_that_are_always_there(page):
  text = page.read_text()
  assert '## How ours is computed\n\n- Our weights start' in text
  assert '## Findings\n\n### What agrees\n\nThis.\n\nOf ' in text
  assert '- mnist_2nn/iid/C0.1/E1/B10: 0.1, 0.2154 diverged\n' in text
  assert ('| cpu: some machine | `ababababab` | jax 0.10.2 | 5 | 2.50 | '
          '2026-11-21 |') in text


def test_a_bound_gives_a_bound_no_speedup_and_is_not_counted():
  base, key = 'mnist_2nn/iid/C0.1/E1/Binf', 'mnist_2nn/iid/C0.1/E1/B10'
  records = {base: record(base, [[1400]]), key: record(key, [[90]], 'partial')}
  text = tables.render(next(tables.blocks(4)), records)
  assert '| 1,400 (1 seed) | 0.95 | 1.0× | 1.0× |' in text
  assert '| at most 90 so far (1 seed) | ≤ 0.98 | 16.0× | - |' in text
  text = report.page(records, (), '')
  assert '97 rows of the tables 2 are finished, 2 begun and 93 not run' in text
  assert '2 have a figure in both; of these, 2 lie within' in text


def test_figures_are_drawn_where_there_is_data(page):
  drawn = {file.name for file in (page.parent / 'paper').iterdir()}
  assert drawn == {
      'figure4.png', 'figure7.png', 'figure9.png', 'rounds.png'}
  for name in drawn:
    assert image.imread(page.parent / 'paper' / name).std() > 0.02
    assert f'](paper/{name})' in page.read_text()
  parts = page.read_text().split('### Figure ')
  figure = {int(re.match(r'\d+', part)[0]): part for part in parts[1:]}
  assert figure[1].strip().endswith('Not run.')
  assert figure[8].strip().endswith('Not run.')
  assert ('Partial: 3 of 18 curves, 1 of them of runs that were cut off.'
          in figure[7])
  assert 'Partial: 1 of 2 curves.' in figure[4]


def test_a_figure_with_all_its_curves_is_complete():
  figure = figures.FIGURES[4]
  keys = [cell.key for panel in figure.panels for cell in panel.cells]
  records = {key: record(key, [[1], [2], [3]]) for key in keys}
  assert figures.completeness(figure, records) == 'Complete: 2 curves.'


class Points(list):
  """Axes that keep what is plotted."""

  def plot(self, x, y, marker, **options):
    self.append((marker, x, y, options['markerfacecolor']))


def test_the_plot_has_the_papers_rounds_below_and_ours_beside():
  records = records_of({'mnist_2nn/noniid/C0.1/E1/B10': [160]})
  found = summary.compared(
      [row for block in summary.blocks() for row in block.rows], records)
  axes = Points()
  summary._draw_group(axes, found, 'mnist_2nn', 'noniid', True)
  assert axes == [('^', [664, 831], [160, 160], 'white')]


def test_the_same_store_gives_the_same_bytes(page, path, tmp_path):
  again = report.write(path, tmp_path / 'again', tmp_path / 'notes.md')
  assert again.read_bytes() == page.read_bytes()
  for name in ('rounds.png', 'figure7.png'):
    assert (again.parent / 'paper' / name).read_bytes() == (
        page.parent / 'paper' / name).read_bytes()


def test_figure_1_is_shown_if_it_is_there(page, path, tmp_path):
  (page.parent / 'paper' / 'figure1.png').write_bytes(b'')
  report.write(path, page.parent, tmp_path / 'notes.md')
  assert '![Figure 1](paper/figure1.png)' in page.read_text()


def test_without_a_store_nothing_is_claimed(tmp_path):
  page = report.write(tmp_path / 'none.jsonl', tmp_path)
  text = page.read_text()
  assert '0 are finished, 0 begun and 97 not run' in text
  assert '](paper/' not in text and '<summary>Devices' not in text
  assert not (tmp_path / 'paper').exists()


class Axes:
  """Records what is drawn."""

  def __init__(self):
    self.lines, self.bands = [], []

  def plot(self, x, y, *style, **options):
    self.lines.append((np.array(x).tolist(), np.array(y).tolist()))

  def fill_between(self, x, low, high, **options):
    self.bands.append((np.array(low).tolist(), np.array(high).tolist()))


def draw_cell(key, quantity, updates=False):
  cell, axes = BY_KEY[key], Axes()
  kept = {'curve': {
      'rate': '0.1', 'rounds': [1, 2, 3],
      'test_accuracy': [[0.5, 0.4, 0.9], [0.1, 0.3, None], [0.2, 0.8, 0.7]],
      'train_loss': [[3, 2, 1], [4, 3, None], [5, 1, 2]]}}
  panel = figures.Panel('', (cell,), quantity, updates)
  figures._draw_cell(axes, panel, cell, kept, 'k')
  return axes


def test_a_curve_is_the_median_of_the_best_so_far():
  # Best so far: 0.5 0.5 0.9, 0.1 0.3 0.3, 0.2 0.8 0.8.
  axes = draw_cell('mnist_2nn/iid/C0.1/E1/B10', 'test_accuracy')
  assert axes.lines == [
      ([1, 2, 3], [0.2, 0.5, 0.8]), (87, 0.97), (92, 0.97)]
  assert axes.bands == [([0.1, 0.3, 0.3], [0.5, 0.8, 0.9])]


def test_a_loss_is_drawn_as_it_is():
  axes = draw_cell('mnist_2nn/iid/C0.1/E1/B10', 'train_loss')
  assert axes.lines == [([1, 2, 3], [4, 2, 1.5])]


def test_minibatch_updates_are_those_of_all_clients():
  # 10 clients of 500 examples, 5 epochs in batches of 50: 500 a round.
  axes = draw_cell('cifar_cnn/iid/C0.1/E5/B50', 'test_accuracy', updates=True)
  assert axes.lines[0][0] == [500, 1000, 1500]
  assert axes.lines[1] == (280 * 500, 0.8)
  # A round of ours is 100 updates of SGD; the table counts updates.
  axes = draw_cell('cifar_cnn/central/C1/E1/B100', 'test_accuracy', True)
  assert axes.lines[0][0] == [100, 200, 300]
  assert axes.lines[1] == (18000, 0.8)


def test_list_shows_all_cells_and_what_is_known(path, monkeypatch, capsys):
  monkeypatch.setattr(store, 'STORE', path)
  command.main(['list', '--table', '4', '--partition', 'iid'])
  head, *lines = capsys.readouterr().out.splitlines()
  assert head.split() == ['cell', 'tables', 'published', 'state', 'ours']
  assert len(lines) == 9
  (line,) = [x for x in lines if x.startswith('mnist_2nn/iid/C0.1/E1/B10 ')]
  assert line.split(maxsplit=6)[1:] == [
      '1', '4', '87', '92', 'done', '46 (44.0 to 50, 3 seeds)']
  assert sum(line.split()[-2:] == ['run', '-'] for line in lines) == 7


@pytest.mark.parametrize('arguments', [
    ['run'], ['run', '--all', '--table', '2'], ['run', '--table', '9'],
    ['list', '--model', 'cnn'], []])
def test_bad_arguments_are_refused(arguments, capsys):
  with pytest.raises(SystemExit) as error:
    command.main(arguments)
  assert error.value.code == 2
  assert 'error:' in capsys.readouterr().err


def test_comparisons_are_shown_at_their_best_rate(path, tmp_path):
  line = {'topic': 'one shot', 'clients': 'IID', 'way': '4 x 5 epochs',
          'accuracy': {'0.1': [0.9, None, 0.94], '0.2154': [0.97, 0.95, 0.961]},
          'best_rate': '0.2154', 'median': 0.961, 'seeds': [0, 1, 2]}
  inside = line | {'way': '1 x 20 epochs', 'accuracy': {
      '1': [0.1, 0.1, 0.1], **line['accuracy']}}
  (path.parent / 'comparisons.jsonl').write_text(
      ''.join(json.dumps(one) + '\n' for one in (line, inside)))
  notes = tmp_path / 'notes.md'
  notes.write_text('')
  page = report.write(path, tmp_path / 'docs', notes).read_text()
  assert ('| IID | 4 x 5 epochs | 96.1% (95.0 to 97.0) | 0.2154, the largest |'
          in page)
  assert '| IID | 1 x 20 epochs | 96.1% (95.0 to 97.0) | 0.2154 |' in page
  assert page.count('| clients | way |') == 1  # Of weights nothing is known.
