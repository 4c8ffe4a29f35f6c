"""The list of cells: complete, as published, and a valid config each."""

import pytest

from benchmarks.paper import cells, published
from benchmarks.paper.cells import BY_KEY, CELLS, config_overrides, select
from configs import default
from fedjax_sim.data import sampling
from fedjax_sim.experiment import check_config


def test_there_are_97_published_cells_91_with_a_figure():
  figures = [rounds for entry in published.entries() for rounds in entry.rounds]
  assert len(figures) == 97
  assert sum(rounds is not None for rounds in figures) == 91
  kept = [rounds for cell in CELLS for row in cell.published.values()
          for rounds in row]
  assert sorted(map(str, kept)) == sorted(map(str, figures))


@pytest.mark.parametrize('key, expected', [
    # The cells that two tables print, with different figures.
    ('mnist_2nn/iid/C0.1/E1/B10', {1: (87,), 4: (92,)}),
    ('mnist_2nn/noniid/C0.1/E1/B10', {1: (664,), 4: (831,)}),
    ('mnist_2nn/iid/C0.1/E1/Binf', {1: (1474,), 4: (1468,)}),
    ('mnist_cnn/iid/C0.1/E5/B10', {1: (18,), 2: (20,)}),
    ('mnist_cnn/noniid/C0.1/E5/B10', {1: (206,), 2: (229,)}),
    # And others.
    ('mnist_2nn/iid/C0/E1/B10', {1: (316,)}),
    ('mnist_2nn/noniid/C1/E1/Binf', {1: (None,)}),
    ('mnist_cnn/noniid/C1/E5/B10', {1: (97,)}),
    ('shakespeare_lstm/role/C0.1/E5/B10', {2: (41,)}),
    ('cifar_cnn/iid/C0.1/E1/Binf', {3: (3750, 6600, None)}),
    ('cifar_cnn/central/C1/E1/B100', {3: (18000, 31000, 99000)}),
    ('mnist_cnn/iid/C0.1/E100/B10', {}),
    ('word_lstm/author/M50/E1/B8', {})])
def test_figures_of_a_key(key, expected):
  assert BY_KEY[key].published == expected


def test_keys_are_unique_and_only_full_gradients_are_fedsgd():
  assert len(BY_KEY) == len(CELLS)
  for cell in CELLS:
    assert (cell.algorithm == 'fedsgd') == cell.key.endswith('/E1/Binf')


@pytest.mark.parametrize('model, label, u', [
    # The columns u of tables 2 and 4, with their digits.
    ('mnist_cnn', 'E1Binf', 1), ('mnist_cnn', 'E20Binf', 20),
    ('mnist_cnn', 'E1B50', 12), ('mnist_cnn', 'E5B10', 300),
    ('mnist_cnn', 'E20B10', 1200), ('mnist_2nn', 'E10B50', 120),
    ('shakespeare_lstm', 'E1B50', 1.5), ('shakespeare_lstm', 'E1B10', 7.4),
    ('shakespeare_lstm', 'E5B50', 7.4), ('shakespeare_lstm', 'E5B10', 37.1)])
def test_u_is_the_papers(model, label, u):
  for cell in select(model=model, cell='C0.1' + label):
    assert round(cell.u, 1) == u


@pytest.mark.parametrize('cell', CELLS, ids=lambda cell: cell.key)
def test_overrides_are_fields_of_the_default_config(cell):
  config = default.get_config()
  config.lock()
  fields = config_overrides(cell)
  config.update(fields)  # Of the same types, or it raises.
  check_config.validate(config)
  assert config.targets == cell.targets
  assert config.full_batch == (cell.B is None)
  if cell.C is not None and config.num_clients:
    assert cell.cohort == sampling.cohort_size(
        config.num_clients, client_fraction=config.client_fraction)


def test_overrides_of_each_kind():
  fields = config_overrides(BY_KEY['mnist_2nn/noniid/C0/E1/B10'])
  assert fields == {
      'dataset': 'mnist', 'model': 'mnist_2nn', 'partition': 'shards(2)',
      'num_clients': 100, 'algorithm': 'fedavg',
      'local_epochs': 1, 'full_batch': False, 'batch_size': 10,
      'client_fraction': 0.0, 'targets': (0.97,)}
  fields = config_overrides(BY_KEY['shakespeare_lstm/iid/C0.1/E1/B10'])
  assert (fields['partition'], fields['num_clients']) == ('iid', 1146)
  fields = config_overrides(BY_KEY['shakespeare_lstm/role/C0.1/E1/B10'])
  assert (fields['partition'], fields['num_clients']) == ('natural', 0)
  fields = config_overrides(BY_KEY['cifar_cnn/iid/C0.1/E1/Binf'])
  assert fields['client_lr_decay'] == 0.9934
  fields = config_overrides(BY_KEY['cifar_cnn/iid/C0.1/E5/B50'])
  assert fields['client_lr_decay'] == 0.99
  fields = config_overrides(BY_KEY['cifar_cnn/central/C1/E1/B100'])
  assert fields['algorithm'] == 'centralized_sgd(steps_per_round=100)'
  assert fields['num_clients'] == 1
  fields = config_overrides(BY_KEY['word_lstm/author/M50/E1/Binf'])
  assert fields['clients_per_round'] == 50 and fields['algorithm'] == 'fedsgd'
  assert fields['test_examples'] == 5000


def test_selection():
  keys = [c.key for c in select(2, 'mnist_cnn', 'noniid', 'E5B10')]
  assert keys == ['mnist_cnn/noniid/C0.1/E5/B10']
  fractions = [c.C for c in select(1, 'mnist_2nn', 'iid', 'E1B10')]
  assert fractions == [0, 0.1, 0.2, 0.5, 1]
  assert len(select(cell='C0.2E1B10')) == 2
  # 8 rows of 5; 9 and 6 rows on two partitions; 3; 9 rows on two.
  assert [len(select(table)) for table in (1, 2, 3, 4)] == [40, 30, 3, 18]
  assert select() == list(CELLS)


@pytest.mark.parametrize('filters, message', [
    ({'table': 5}, 'table must be one of 1, 2, 3, 4, got 5'),
    ({'model': 'cnn'}, "cifar_cnn, mnist_2nn, .*, got 'cnn'"),
    ({'model': 'mnist_2nn', 'partition': 'role'}, 'one of iid, noniid, got'),
    ({'table': 4, 'cell': 'E5B10'}, "cell must be .*E10B50, .*got 'E5B10'")])
def test_a_selection_of_nothing_says_what_there_is(filters, message):
  with pytest.raises(ValueError, match=message):
    select(**filters)


def test_cost_is_rounds_times_examples_times_operations():
  # 10 clients of 600 examples, 6 operations a weight, at most 92 rounds.
  cost = BY_KEY['mnist_2nn/iid/C0.1/E1/B10'].cost
  assert cost == pytest.approx(10 * 600 * 6 * 199210 * 92)
  # 99,000 updates of 100 examples; table 3's unit is not a round of ours.
  sgd = BY_KEY['cifar_cnn/central/C1/E1/B100']
  fedavg = BY_KEY['cifar_cnn/iid/C0.1/E5/B50']
  assert sgd.cost / fedavg.cost == pytest.approx(
      99000 * 100 / (2000 * 10 * 500 * 5))


def test_cells_with_centered_pixels():
  """Only MNIST's; a key of their own, all else alike."""
  (cell,) = cells.centered([
      BY_KEY['mnist_2nn/iid/C0.1/E1/B10'],
      BY_KEY['cifar_cnn/iid/C0.1/E5/B50']])
  assert cell.key == 'mnist_2nn/iid/C0.1/E1/B10/centered'
  want = config_overrides(BY_KEY['mnist_2nn/iid/C0.1/E1/B10'])
  assert config_overrides(cell) == want | {
      'model': 'mnist_2nn(preprocess=centered)'}
