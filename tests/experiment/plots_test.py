"""Figures show what they were given, and replace files atomically."""


import matplotlib.figure
import matplotlib.image
import numpy as np
import pytest

from fedjax_sim.data import partition as partition_lib
from fedjax_sim.experiment import plots

LABELS = np.random.default_rng(0).integers(0, 4, 600)


@pytest.fixture(name='figures')
def figures_fixture(monkeypatch):
  """The figures that are saved, in order."""
  saved = []
  original = matplotlib.figure.Figure.savefig
  def record(figure, *args, **kwargs):
    saved.append(figure)
    return original(figure, *args, **kwargs)
  monkeypatch.setattr(matplotlib.figure.Figure, 'savefig', record)
  return saved


def rows_of(values, metric='test/accuracy', step=1):
  return [{'round': (i + 1) * step, metric: v} for i, v in enumerate(values)]


def heat_map(figure):
  """Counts [labels, clients] as drawn, 0 where nothing is."""
  mesh, = figure.axes[0].collections
  return np.ma.filled(mesh.get_array(), 0)


def title_of(figure):
  return figure.axes[0].get_title(loc='left')


def labels_of(figure):
  return [axes.get_xlabel() for axes in figure.axes]


# partition_figure


def test_cells_are_the_counts(tmp_path, figures):
  partition = partition_lib.dirichlet(LABELS, 12, 0.3, seed=0)
  path = tmp_path / 'partition.png'
  plots.partition_figure(partition, LABELS, path, 'Who has what')
  expected = [[np.sum(LABELS[client] == label) for client in partition]
              for label in range(4)]
  assert np.array_equal(heat_map(figures[0]), expected)
  assert title_of(figures[0]) == str(partition_lib.summary(partition, LABELS))
  assert figures[0].get_suptitle() == 'Who has what'
  assert matplotlib.image.imread(path).std() > 0.05


def test_none_is_white_and_one_is_not(tmp_path, figures):
  partition = [np.arange(599), np.array([599])]
  plots.partition_figure(partition, LABELS, tmp_path / 'p.png')
  mesh, = figures[0].axes[0].collections
  one, nothing = mesh.cmap(mesh.norm(1)), mesh.cmap(np.ma.masked)
  assert nothing[:3] == (1, 1, 1)
  assert max(one[:3]) - min(one[:3]) > 0.1


@pytest.mark.parametrize('labels, ragged, expected', [
    (LABELS, False, ['client']),
    (LABELS, True, ['client', 'examples a client']),
    (None, False, ['examples a client'])])
def test_sizes_are_drawn_where_they_differ(
    tmp_path, figures, labels, ragged, expected):
  partition = partition_lib.quantity(600, 10, seed=0, sigma=0.5 * ragged)
  plots.partition_figure(partition, labels, tmp_path / 'p.png')
  # The color bar has axes too, without a label below.
  assert [x for x in labels_of(figures[0]) if x] == expected


@pytest.mark.parametrize('sigma', [0.3, 3.0])
def test_every_client_is_in_the_histogram(tmp_path, figures, sigma):
  partition = partition_lib.quantity(20000, 300, seed=0, sigma=sigma)
  plots.partition_figure(partition, None, tmp_path / 'p.png')
  axes, = figures[0].axes
  assert sum(bar.get_height() for bar in axes.patches) == 300
  assert axes.get_xscale() == ('log' if sigma == 3.0 else 'linear')


def test_many_clients_are_sampled_and_that_is_said(tmp_path, figures):
  partition = partition_lib.iid(600, 250, seed=0)
  plots.partition_figure(partition, LABELS, tmp_path / 'p.png')
  drawn = heat_map(figures[0])
  assert drawn.shape == (4, 100)
  assert 'Shown: 100 of 250 clients' in title_of(figures[0])
  ends = [np.bincount(LABELS[partition[i]], minlength=4) for i in (0, 249)]
  assert np.array_equal(drawn[:, [0, -1]].T, ends)


def test_many_labels_are_cut_to_the_most_frequent(tmp_path, figures):
  # Label l occurs l + 1 times; of 50, the last 40 are the most frequent.
  labels = np.repeat(np.arange(50), np.arange(50) + 1)
  plots.partition_figure([np.arange(len(labels))], labels, tmp_path / 'p.png')
  assert heat_map(figures[0])[:, 0].tolist() == list(range(11, 51))
  assert 'the 40 most frequent of 50 labels' in title_of(figures[0])


def test_labels_can_be_names(tmp_path, figures):
  names = np.array(['coat', 'bag'])[LABELS % 2]
  plots.partition_figure([np.arange(600)], names, tmp_path / 'p.png')
  ticks = figures[0].axes[0].get_yticklabels()
  assert [tick.get_text() for tick in ticks] == ['bag', 'coat']


def test_a_wrong_partition_is_refused(tmp_path):
  with pytest.raises(ValueError, match='client 0 has index 600'):
    plots.partition_figure([np.array([600])], LABELS, tmp_path / 'p.png')
  assert not list(tmp_path.iterdir())


# curves


def line(figure, i):
  return np.array(figure.axes[0].lines[i].get_xydata())


def test_curve_and_best_so_far(tmp_path, figures):
  rows = rows_of([0.5, 0.8, None, 0.7, float('nan'), 0.9], step=10)
  rows.insert(3, {'round': 35, 'train/loss': 1.0})
  path = tmp_path / 'accuracy.png'
  plots.curves(rows, path, title='A run')
  assert line(figures[0], 0).tolist() == [
      [10, 0.5], [20, 0.8], [40, 0.7], [60, 0.9]]
  assert line(figures[0], 1)[:, 1].tolist() == [0.5, 0.8, 0.8, 0.9]
  assert figures[0].get_suptitle() == 'A run'
  assert matplotlib.image.imread(path).std() > 0.02


def test_several_runs_are_told_apart(tmp_path, figures):
  runs = {'iid': rows_of([0.5, 0.9]), 'shards': rows_of([0.3, 0.6, 0.8])}
  plots.curves(runs, tmp_path / 'c.png')
  axes, = figures[0].axes
  texts = [text.get_text() for text in axes.get_legend().get_texts()]
  assert texts == ['iid', 'shards', 'best so far']
  # Each run has a line and a dotted one of its color.
  colors = [entry.get_color() for entry in axes.lines]
  assert colors[0] == colors[1] != colors[2] == colors[3]
  assert [len(entry.get_xdata()) for entry in axes.lines] == [2, 2, 3, 3]


def test_targets_are_lines_with_their_value(tmp_path, figures):
  plots.curves(rows_of([0.5, 0.9]), tmp_path / 'c.png', targets=(0.8, 0.975))
  axes, = figures[0].axes
  assert [text.get_text() for text in axes.texts] == ['80%', '97.5%']
  heights = [set(line(figures[0], i)[:, 1]) for i in (2, 3)]
  assert heights == [{0.8}, {0.975}]


def test_the_range_is_that_of_the_later_part(tmp_path, figures):
  # 0.1 in the first of 100 rounds, then 0.95 rising to 0.99.
  values = [0.1, *np.linspace(0.95, 0.99, 99)]
  plots.curves(rows_of(values), tmp_path / 'c.png', targets=(0.995,))
  low, high = figures[0].axes[0].get_ylim()
  assert 0.9 < low < 0.955
  assert 0.995 < high <= 1.001


def test_the_range_holds_all_of_a_short_curve_but_its_start(tmp_path, figures):
  plots.curves(rows_of([0.0, 1.0]), tmp_path / 'c.png')
  low, high = figures[0].axes[0].get_ylim()
  assert low < 0.05 and 1 < high < 1.02


def test_a_single_constant_evaluation(tmp_path, figures):
  plots.curves(rows_of([1.0]), tmp_path / 'c.png')
  low, high = figures[0].axes[0].get_ylim()
  assert low < 1 < high


def test_the_best_of_a_loss_is_its_lowest(tmp_path, figures):
  records = [{'round': r, 'test/mae': value}
             for r, value in enumerate([3.0, 1.0, 2.0, 0.5], 1)]
  plots.curves(records, tmp_path / 'a.png', 'test/mae', higher=False)
  np.testing.assert_array_equal(
      line(figures[0], 1)[:, 1], [3.0, 1.0, 1.0, 0.5])


def test_a_loss_without_best(tmp_path, figures):
  plots.curves(rows_of([2.0, 0.5], 'train/loss'), tmp_path / 'c.png',
               metric='train/loss', best=False)
  axes, = figures[0].axes
  assert len(axes.lines) == 1 and axes.get_legend() is None
  low, high = axes.get_ylim()
  assert low < 0.5 and high > 2
  assert axes.get_ylabel() == 'train/loss'


def test_curves_against_simulated_time(tmp_path, figures):
  rows = rows_of([0.3, 0.5, 0.6])
  for row, seconds in zip(rows, (0.0, 3600.0, 9000.0), strict=True):
    row['simulated_seconds'] = seconds
  plots.curves(rows, tmp_path / 'c.png', axis='simulated_seconds', best=False)
  axes = figures[-1].axes[0]
  np.testing.assert_allclose(axes.lines[0].get_xdata(), [0, 3600, 9000])
  assert axes.get_xlabel() == 'simulated time'
  figures[-1].canvas.draw()
  assert [tick.get_text() for tick in axes.get_xticklabels()][1:4] == [
      '0 min', '20 min', '40 min']


@pytest.mark.parametrize('end', [0.07, 5, 50, 1000, 9e3, 4e4, 2e5, 3e6, 1e8])
@pytest.mark.parametrize('scale', [1, 30])
def test_ticks_of_time_are_whole(tmp_path, figures, end, scale):
  """On a line, and where a run ends 30 times sooner on a logarithm."""
  runs = {f'{end}': [row | {'simulated_seconds': end * row['round'] / 3}
                     for row in rows_of([0.3, 0.5, 0.6])]
          for end in {end, end / scale}}
  plots.curves(runs, tmp_path / 'c.png', axis='simulated_seconds')
  axes = figures[-1].axes[0]
  assert axes.get_xscale() == ('log' if scale > 1 else 'linear')
  figures[-1].canvas.draw()
  low, high = axes.get_xlim()
  texts = [tick.get_text() for tick, x in zip(
      axes.get_xticklabels(), axes.get_xticks(), strict=True)
      if low <= x <= high]
  assert 1 <= len(texts) <= 10
  for number, unit in (text.split() for text in texts):
    assert unit == 's' or float(number) == int(number)


def test_a_run_without_points_leaves_the_others(tmp_path, figures):
  plots.curves({'new': [], 'old': rows_of([0.5])}, tmp_path / 'c.png')
  assert [len(x.get_xdata()) for x in figures[0].axes[0].lines] == [0, 1, 1]


@pytest.mark.parametrize('rows', [rows_of([0.5]), {'a': rows_of([0.5])}])
def test_an_unknown_metric_lists_those_there_are(tmp_path, rows):
  with pytest.raises(ValueError, match="one of test/accuracy, got 'accuracy'"):
    plots.curves(rows, tmp_path / 'c.png', metric='accuracy')


def with_bytes(values, up, down=10):
  return [row | {'bytes_up': up, 'bytes_down': down} for row in rows_of(values)]


def test_bytes_are_those_of_all_rounds_so_far(tmp_path, figures):
  rows = with_bytes([0.2, None, 0.6, 0.7], up=500)
  rows[1]['bytes_up'] = 2000
  for axis, want in (('bytes_up', [500, 3000, 3500]),
                     ('bytes_down', [10, 30, 40]),
                     ('bytes', [510, 3030, 3540])):
    plots.curves(rows, tmp_path / 'c.png', axis=axis)
    assert line(figures[-1], 0)[:, 0].tolist() == want
    axes, = figures[-1].axes
    assert axes.xaxis.get_major_formatter()(2500, None) == '2.5 kB'
    assert 'all clients' in axes.get_xlabel()


def test_bytes_far_apart_are_drawn_on_a_logarithm(tmp_path, figures):
  for up, scale in ((1e3, 'log'), (5e4, 'linear')):
    runs = {'compressed': with_bytes([0.5, 0.6], up),
            'plain': with_bytes([0.5, 0.6], 1e5)}
    plots.curves(runs, tmp_path / 'c.png', axis='bytes_up')
    assert figures[-1].axes[0].get_xscale() == scale


@pytest.mark.parametrize('axis, fields', [
    ('bytes_up', ('bytes_up',)), ('bytes', ('bytes_up', 'bytes_down')),
    ('simulated_seconds', ('simulated_seconds',))])
@pytest.mark.parametrize('best', [False, True])
def test_what_lies_at_0_is_not_drawn_on_a_logarithm(
    tmp_path, figures, axis, fields, best):
  """The model before training has cost nothing; it may be the best so far."""
  runs = {f'{cost}': [
      {'round': r, 'test/accuracy': v} | dict.fromkeys(fields, cost * r)
      for r, v in enumerate((0.55, 0.5, 0.6))] for cost in (10.0, 1e4)}
  plots.curves(runs, tmp_path / 'c.png', axis=axis, targets=[0.6], best=best)
  axes = figures[-1].axes[0]
  assert axes.get_xscale() == 'log'
  across = [x for x in axes.lines if x.get_transform() != axes.transData]
  curves = [x for x in axes.lines if x not in across]
  assert len(across) == 1 and len(across[0].get_xdata()) == 2
  assert len(curves) == (4 if best else 2)
  for curve in curves:
    assert len(curve.get_xdata()) == 2 and min(curve.get_xdata()) > 0
    dotted = curve.get_linestyle() != '-'
    assert curve.get_ydata()[0] == (0.55 if dotted else 0.5)
  assert axes.get_xlim()[0] > 1


def test_one_run_has_its_bytes_on_top(tmp_path, figures):
  rows = with_bytes([0.2, 0.5, 0.7], up=500)
  rows[1]['bytes_up'] = 2000
  plots.curves(rows, tmp_path / 'c.png')
  top, = figures[0].axes[0].child_axes
  assert top.get_xlabel() == 'sent by all clients'
  to_bytes, to_rounds = top._functions
  np.testing.assert_allclose(to_bytes([1, 2, 3]), [500, 2500, 3000])
  np.testing.assert_allclose(to_rounds([500, 2500, 3000]), [1, 2, 3])


def test_records_of_old_runs_have_no_bytes(tmp_path, figures):
  plots.curves(rows_of([0.5, 0.6]), tmp_path / 'c.png')
  assert not figures[0].axes[0].child_axes
  with pytest.raises(ValueError, match="axis must be 'round' .* bytes_up, got"):
    plots.curves(rows_of([0.5]), tmp_path / 'c.png', axis='bytes_up')
  plots.curves({'old': rows_of([0.5]), 'new': with_bytes([0.5], 10)},
               tmp_path / 'c.png', axis='bytes_up')
  assert [len(x.get_xdata()) for x in figures[-1].axes[0].lines] == [0, 1, 1]
  with pytest.raises(ValueError, match='axis must be one of bytes, bytes_down'):
    plots.curves(rows_of([0.5]), tmp_path / 'c.png', axis='seconds')


# before_and_after


def test_every_client_is_a_point_and_percentiles_are_given(tmp_path, figures):
  before = np.linspace(0, 1, 11)
  after = 0.4 * before + 0.55
  before[3] = np.nan
  runs = {name: {'seen': (before, after), 'unseen': (before[:3], after[:3])}
          for name in ('a', 'b', 'c', 'd', 'e')}
  path = tmp_path / 'p.png'
  plots.before_and_after(runs, path, title='All')
  panels = [axes for axes in figures[0].axes if axes.get_visible()]
  assert [axes.get_legend().get_title().get_text() for axes in panels] == list(
      runs)
  # Ticks are named below a column, also where it ends early.
  named = [axes.xaxis.get_tick_params()['labelbottom'] for axes in panels]
  assert named == [False, True, True, True, True]
  seen, unseen = panels[4].collections
  real = np.isfinite(before)
  np.testing.assert_allclose(
      seen.get_offsets(), np.stack([before[real], after[real]], axis=1))
  assert len(unseen.get_offsets()) == 3
  texts = [t.get_text() for t in panels[0].get_legend().get_texts()]
  # Of 0, 0.1, 0.2, 0.4 .. 1, and of 0.55 and 0.4 times that.
  assert texts[0].splitlines() == [
      'seen: p10, p50, p90', '  9% to  59%', ' 55% to  77%', ' 91% to  91%']
  assert matplotlib.image.imread(path).std() > 0.02


# Files


def test_a_figure_is_replaced_atomically(tmp_path, monkeypatch):
  path = tmp_path / 'c.png'
  path.write_text('the old one')
  def cut_off(figure, part, **kwargs):
    assert path.read_text() == 'the old one'
    part.write(b'half')
    raise OSError('disk full')
  with monkeypatch.context() as patch:
    patch.setattr(matplotlib.figure.Figure, 'savefig', cut_off)
    with pytest.raises(OSError, match='disk full'):
      plots.curves(rows_of([0.5]), path)
  assert path.read_text() == 'the old one'
  assert [file.name for file in tmp_path.iterdir()] == ['c.png']
  plots.curves(rows_of([0.5]), path)
  assert path.read_bytes().startswith(b'\x89PNG')
  assert [file.name for file in tmp_path.iterdir()] == ['c.png']


@pytest.mark.parametrize('ending, magic', [('pdf', b'%PDF'), ('svg', b'<?xml')])
def test_the_ending_is_the_format(tmp_path, ending, magic):
  path = tmp_path / f'c.{ending}'
  plots.curves(rows_of([0.5]), path)
  assert path.read_bytes().startswith(magic)
