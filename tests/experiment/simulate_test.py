"""`simulate` and `rounds`: the front door, with and without a folder."""

import functools
import itertools
import json
import signal

import jax
import numpy as np
import optax
import pytest
from flax import core as flax_core
from flax import linen as nn

import fedjax_sim as fs
from configs import digits_quickstart
from fedjax_sim.core import random
from fedjax_sim.core.types import Variables
from fedjax_sim.data.federated import federate
from fedjax_sim.experiment import (
    build_algorithm,
    build_run,
    metrics,
    plots,
    run_sweep,
    starting,
)
from fedjax_sim.experiment import run as run_lib
from tests import toys

MODEL = toys.softmax_model()
DATA = toys.softmax_data([4, 7, 10, 20, 3])
TEST = toys.softmax_data([55], seed=1).examples
ROUNDS = 6


@pytest.fixture(autouse=True)
def _no_figures(monkeypatch):
  monkeypatch.setattr(plots, '_save', lambda figure, path: path.touch())


def fedavg(rate=0.1, model=MODEL):
  return fs.algorithms.fedavg(
      model, optax.sgd(rate), optax.sgd(1.0, momentum=0.9), batch_size=5)


# Of one object a test makes one program.
FEDAVG = fedavg()


def simulate(rounds=ROUNDS, algorithm=FEDAVG, **options):
  return fs.simulate(
      MODEL, algorithm, DATA, rounds=rounds,
      **{'clients_per_round': 2, 'test': TEST, 'devices': 1, 'lanes': 2}
      | options)


def bits(records):
  """Records without times."""
  return [{k: v for k, v in r.items() if k != 'seconds'} for r in records]


def assert_same(got, want):
  assert bits(got.records) == bits(want.records)
  jax.tree.map(np.testing.assert_array_equal, got.state, want.state)


@pytest.fixture(scope='module')
def whole():
  return simulate(algorithm=fedavg())


def test_records_begin_with_the_model_before_training(whole):
  assert [r['round'] for r in whole.records] == list(range(ROUNDS + 1))
  first, second = whole.records[:2]
  initial = MODEL.init(
      random.named(jax.random.key(0), 'model'), TEST['x'][:1])
  want = fs.evaluation.evaluate(MODEL, initial, TEST)
  assert first['test/loss'] == pytest.approx(want['loss'], rel=1e-6)
  assert first['clients'] == first['bytes_up'] == first['bytes_down'] == 0
  # 2 clients send and get 15 floats, and a weight or the round's number.
  assert second['bytes_up'] == second['bytes_down'] == 2 * (15 + 1) * 4


def test_several_devices_evaluate_the_same_initial_model(whole):
  two = simulate(1, devices=2, lanes=1)
  assert two.records[0]['test/loss'] == pytest.approx(
      whole.records[0]['test/loss'], rel=1e-6)


@pytest.mark.parametrize('algorithm', ['fedavg', 'scaffold'])
def test_a_run_goes_on_from_a_result_a_folder_and_its_workdir(
    algorithm, tmp_path):
  made = {'fedavg': fedavg,
          'scaffold': lambda: fs.algorithms.scaffold(MODEL, 0.1)}[algorithm]()
  want = simulate(algorithm=made)
  half = simulate(3, made, workdir=tmp_path / 'a')
  assert_same(simulate(algorithm=made, resume_from=half), want)
  assert_same(simulate(algorithm=made, resume_from=tmp_path / 'a'), want)
  assert_same(simulate(algorithm=made, workdir=tmp_path / 'a'), want)
  other = simulate(algorithm=made, resume_from=half, workdir=tmp_path / 'b')
  assert_same(other, want)
  assert bits(metrics.read(tmp_path / 'b' / 'metrics.jsonl')) == bits(
      metrics.read(tmp_path / 'a' / 'metrics.jsonl'))
  half.save(tmp_path / 'c')
  assert_same(simulate(algorithm=made, resume_from=tmp_path / 'c'), want)
  with pytest.raises(ValueError, match='rounds must be more than the 3 that'):
    simulate(3, made, resume_from=half)


@pytest.mark.parametrize('name, change', [
    ('model and algorithm', lambda: dict(algorithm=fedavg(0.2))),
    ('model and algorithm', lambda: dict(algorithm=fs.algorithms.fedavg(
        MODEL, optax.sgd(0.1), optax.sgd(1.0, momentum=0.8), batch_size=5))),
    ('seed', lambda: dict(seed=1)),
    ('cohorts', lambda: dict(clients_per_round=3)),
    ('evaluation data', lambda: dict(
        test=toys.softmax_data([55], seed=2).examples)),
    ('start', lambda: dict(initial=Variables(
        {'w': np.zeros((4, 3), np.float32), 'b': np.zeros(3, np.float32)},
        {})))])
def test_a_folder_of_another_run_is_refused(name, change, claimed):
  before = (claimed / 'metrics.jsonl').read_bytes()
  with pytest.raises(ValueError, match=f'another .*\n(.*\n)*  {name}: '):
    simulate(2, **{'workdir': claimed} | change())
  assert (claimed / 'metrics.jsonl').read_bytes() == before


@pytest.fixture(scope='module')
def claimed(tmp_path_factory):
  folder = tmp_path_factory.mktemp('claimed')
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(plots, '_save', lambda figure, path: path.touch())
    simulate(2, fedavg(), workdir=folder)
  return folder


def test_a_run_that_is_refused_leaves_no_folder(tmp_path):
  with pytest.raises(ValueError, match='devices must be'):
    simulate(workdir=tmp_path / 'new', devices=99)
  assert not any(tmp_path.iterdir())


def test_other_data_and_a_config_s_folder_are_refused(claimed):
  other = DATA._replace(examples={**DATA.examples, 'y': 1 - DATA.examples['y']
                                  % 2})
  with pytest.raises(ValueError, match='training data: '):
    fs.simulate(MODEL, fedavg(), other, rounds=2, clients_per_round=2,
                test=TEST, devices=1, lanes=2, workdir=claimed)
  record = json.loads((claimed / 'config.json').read_text())
  assert record['config']['weights'] == {
      'params/b': 'float32[3]', 'params/w': 'float32[4,3]'}


def test_what_does_not_change_a_round_may_change(claimed):
  result = simulate(3, workdir=claimed, eval_every=2, checkpoint_seconds=0.0,
                    targets=(0.5,), rounds_per_dispatch=1)
  assert result.records[-1]['round'] == 3


def test_initial_weights():
  given = {'w': np.ones((4, 3), np.float32), 'b': np.zeros(3, np.float32)}
  a = simulate(1, initial=given)
  b = simulate(1, initial=Variables(given, {}), seed=0)
  assert_same(a, b)
  want = fs.evaluation.evaluate(MODEL, Variables(given, {}), TEST)
  assert a.records[0]['test/loss'] == pytest.approx(want['loss'], rel=1e-6)
  warm = simulate(1, initial=a)
  assert warm.records[0]['test/loss'] == a.records[-1]['test/loss']
  with pytest.raises(ValueError, match=r'params/w: float32\[4,2\] there, '):
    simulate(1, initial={'w': np.ones((4, 2), np.float32), 'b': given['b']})


def test_initial_weights_of_a_folder_and_of_flax(tmp_path):
  class Net(nn.Module):
    @nn.compact
    def __call__(self, x, train):
      return nn.Dense(3)(nn.BatchNorm(use_running_average=not train)(x))

  model = fs.models.from_linen(Net())
  run = functools.partial(
      fs.simulate, model, fedavg(model=model), DATA, rounds=1,
      clients_per_round=2, test=TEST, devices=1, lanes=2)
  done = run(workdir=tmp_path)
  loaded = fs.load(tmp_path, model=model)
  _, variables = model.to_linen(done.variables)
  want = done.records[-1]['test/loss']
  for given in (str(tmp_path), loaded, variables, flax_core.freeze(variables)):
    assert run(initial=given).records[0]['test/loss'] == want
  with pytest.raises(ValueError, match='variables of a flax module by'):
    run(initial=variables['params'])
  with pytest.raises(ValueError, match="initial: 'nowhere' holds no run"):
    run(initial='nowhere')
  with pytest.raises(ValueError, match='model_state/batch_stats.*nothing th'):
    run(initial={'params': variables['params']})


@pytest.mark.parametrize('name', ['x', 'y'])
def test_clients_test_examples_are_checked_before_any_round(name):
  wrong = {'x': TEST['x'][:44, :-1], 'y': TEST['y'][:44] + 3}
  bad = fs.data.federate(
      {**jax.tree.map(lambda x: x[:44], TEST), name: wrong[name]},
      np.split(np.arange(44), np.cumsum(DATA.sizes)[:-1]))
  model = fs.models.from_linen(nn.Dense(3))
  rounds = []
  with pytest.raises(ValueError, match=rf"client_test\['{name}'\]"):
    fs.simulate(
        model, fedavg(model=model), DATA, rounds=1, clients_per_round=2,
        client_test=bad, client_eval_every=1, callbacks=[
            lambda state, record: rounds.append(record)])
  assert not rounds


def test_a_folder_with_more_rounds_than_asked_for_is_refused(tmp_path):
  simulate(2, workdir=tmp_path)
  before = (tmp_path / 'metrics.jsonl').read_bytes()
  with pytest.raises(ValueError, match='at least 2, the rounds.*got 1'):
    simulate(1, workdir=tmp_path)
  assert (tmp_path / 'metrics.jsonl').read_bytes() == before


def test_callbacks_see_each_evaluated_round_and_may_stop_it(whole):
  seen = []

  def watch(state, record):
    loss = fs.evaluation.evaluate(MODEL, state.server.variables, TEST)['loss']
    assert loss == pytest.approx(record['test/loss'], rel=1e-5)
    seen.append((record['round'], state))
    return record['round'] == 4

  result = simulate(callbacks=[watch], eval_every=2, rounds=8)
  assert [r for r, _ in seen] == [0, 2, 4]
  assert result.stopped and not result.interrupted
  assert result.records[-1]['round'] == 4
  # The first states are still the callback's.
  assert int(seen[0][1].server.round) == 0
  want = {r['round']: r['test/loss'] for r in whole.records}
  assert result.records[4]['test/loss'] == want[4]


def test_early_stopping_goes_on_where_it_was(tmp_path):
  stop = lambda: fs.callbacks.early_stopping(
      'test/loss', patience=3, min_change=100.0)
  once = simulate(callbacks=[stop()])
  assert once.stopped and once.records[-1]['round'] == 3
  simulate(2, callbacks=[stop()], workdir=tmp_path)
  again = simulate(callbacks=[stop()], workdir=tmp_path)
  assert_same(again, once)
  # And a run that it has stopped stays so.
  last = simulate(callbacks=[stop()], workdir=tmp_path)
  assert last.stopped and bits(last.records) == bits(once.records)


def test_the_best_model_in_memory_and_on_disk(tmp_path):
  keep = fs.callbacks.keep_best('test/accuracy', mode='max')
  options = {'best_metric': 'test/accuracy', 'best_mode': 'max'}
  result = simulate(callbacks=[keep], **options)
  rounds, accuracy = result.curve('test/accuracy')
  best = rounds[np.argmax(accuracy)]
  assert keep.round == result.best.round == best
  measured = fs.evaluation.evaluate(MODEL, result.best.variables, TEST)
  assert measured['accuracy'] == pytest.approx(accuracy.max())
  for stop in (2, 4, ROUNDS):
    disk = simulate(stop, workdir=tmp_path, **options)
  assert (disk.best.round, disk.best.value) == (best, accuracy.max())
  loaded = fs.load(tmp_path, model=MODEL, which='best')
  assert loaded.round == best
  for other in (keep.variables, disk.best.variables, loaded.variables):
    jax.tree.map(np.testing.assert_array_equal, other.params,
                 result.best.variables.params)


@pytest.mark.parametrize('damage', ['missing', 'changed'])
def test_a_lost_best_model_is_said_to_be_and_its_value_stays(
    tmp_path, capsys, damage):
  # By 'max' round 0 stays the best: training lowers the loss.
  options = {'best_metric': 'test/loss', 'best_mode': 'max',
             'workdir': tmp_path}
  best = simulate(2, **options).best
  file = tmp_path / 'best_params.npz'
  assert best.round == 0
  if damage == 'missing':
    file.unlink()
  else:
    file.write_bytes(file.read_bytes()[:-9] + b'otherwise')
  for rounds in (2, 2, 3):
    capsys.readouterr()
    found = simulate(rounds, **options).best
    assert (found.round, found.value) == (0, best.value)
    assert found.variables is None and not file.exists()
    assert (f'{file} is not there: the best model so far, of round 0'
            in capsys.readouterr().out)
  with pytest.raises(ValueError, match='best_params.npz is missing. The run'):
    fs.load(tmp_path, model=MODEL, which='best')


@pytest.mark.parametrize('damage', ['missing', 'changed'])
def test_a_damaged_table_of_clients_is_not_believed(tmp_path, capsys, damage):
  options = {'client_test': DATA, 'client_eval_every': 1, 'workdir': tmp_path}
  assert simulate(2, **options).clients.rounds.tolist() == [0, 1, 2]
  file = tmp_path / 'client_metrics.csv'
  text = file.read_text()
  file.unlink()
  if damage == 'changed':
    digit = text[-3]
    file.write_text(text[:-3] + ('1' if digit != '1' else '2') + text[-2:])
  capsys.readouterr()
  assert simulate(2, **options).clients is None
  out = capsys.readouterr().out
  assert f'warning: {file} is ' in out and 'results are written again' in out
  assert (tmp_path / 'client_metrics.csv.damaged').exists() == (
      damage == 'changed')
  assert simulate(3, **options).clients.rounds.tolist() == [3]


def test_bfloat16_is_loaded_as_bfloat16(tmp_path):
  def init(key, inputs):
    return jax.tree.map(
        lambda x: x.astype(jax.numpy.bfloat16), MODEL.init(key, inputs))
  model = MODEL._replace(init=init)
  run, saved = tmp_path / 'run', tmp_path / 'saved'
  options = {'test': TEST, 'best_metric': 'test/loss', 'clients_per_round': 2,
             'devices': 1, 'lanes': 2}
  result = fs.simulate(model, fedavg(model=model), DATA, rounds=2, workdir=run,
                       **options)
  result.save(saved)
  again = fs.simulate(model, fedavg(model=model), DATA, rounds=2, workdir=run,
                      **options)
  best = result.best.variables
  pairs = [(again.best.variables, best)]
  for folder in (run, saved):
    pairs += [
        (fs.load(folder, model=model).variables, result.variables),
        (fs.load(folder, model=model, which='best').variables, best)]
  for got, want in pairs:
    assert got.params['w'].dtype == jax.numpy.bfloat16
    jax.tree.map(np.testing.assert_array_equal, got.params, want.params)
  fs.simulate(model, fedavg(model=model), DATA, rounds=1,
              initial=fs.load(run, model=model).variables, **options)


def test_a_direction_must_be_known_or_said():
  odd = MODEL._replace(metrics=lambda outputs, examples: {
      'odd': MODEL.metrics(outputs, examples)['accuracy']})
  with pytest.raises(ValueError, match="^best_mode must be 'max' or 'min'"):
    fs.simulate(odd, fedavg(model=odd), DATA, rounds=1, clients_per_round=2,
                test=TEST, best_metric='test/odd')
  with pytest.raises(ValueError, match='^best_metric must be one .*test/loss'):
    simulate(best_metric='test/odd', best_mode='max')


def test_clients_over_time_survive_a_kill(tmp_path, monkeypatch):
  options = {'client_test': DATA, 'client_eval_every': 2,
             'checkpoint_seconds': 0.0}
  want = simulate(**options).clients
  assert want.rounds.tolist() == [0, 2, 4, 6]
  assert want.values['loss'].shape == (4, DATA.num_clients)
  # Every client weighs its loss by its examples: the federation's loss.
  final = simulate(**options)
  mean = np.average(want.values['loss'][-1], weights=DATA.sizes)
  measured = fs.evaluation.evaluate(MODEL, final.variables, DATA.examples)
  assert mean == pytest.approx(measured['loss'], rel=1e-5)

  class Kill(BaseException):
    """In place of a signal."""

  def kill(state, record):
    if record['round'] == 5:
      raise Kill
  with pytest.raises(Kill):
    simulate(callbacks=[kill], workdir=tmp_path, **options)
  file = tmp_path / 'client_metrics.csv'
  file.write_text(file.read_text() + '6,0,4,0.1\n6,1,')  # Cut by the kill.
  got = simulate(workdir=tmp_path, **options).clients
  jax.tree.map(np.testing.assert_array_equal, got, want)


def test_cohorts_in_records(tmp_path):
  result = simulate(record_cohort=True, workdir=tmp_path)
  sampler = fs.data.sampling.uniform(DATA.num_clients, 2, 0)
  want = [[DATA.client_ids[c] for c in sampler.sample(r)]
          for r in range(ROUNDS)]
  assert [r['cohort'] for r in result.records[1:]] == want
  assert [r['cohort'] for r in metrics.read(
      tmp_path / 'metrics.jsonl')[1:]] == want


def test_rounds_is_the_same_run(whole, tmp_path):
  pairs = list(itertools.islice(fs.rounds(
      MODEL, fedavg(), DATA, clients_per_round=2, test=TEST, devices=1,
      lanes=2, workdir=tmp_path), 4))
  assert bits([r for _, r in pairs]) == bits(whole.records[:4])
  jax.tree.map(np.testing.assert_array_equal, pairs[-1][0], simulate(3).state)
  assert int(pairs[0][0].server.round) == 0  # Not taken back.
  # Leaving the loop has kept what was done.
  assert fs.load(tmp_path, model=MODEL).round == 3
  with pytest.raises(TypeError, match='client_per_round'):
    fs.rounds(MODEL, fedavg(), DATA, client_per_round=2)


def test_samplers():
  cohorts = np.array([[4, 0], [1, 2], [3, 0]])
  sampler = fs.data.sampling.Sampler(lambda r: cohorts[r % 3], 2, 5)
  result = simulate(3, sampler=sampler, clients_per_round=None,
                    record_cohort=True)
  assert [r['cohort'] for r in result.records[1:]] == [
      [str(i) for i in cohort] for cohort in cohorts]
  plain = simulate(3, sampler=lambda r: cohorts[r % 3].tolist())
  assert bits(plain.records) == bits(simulate(
      3, sampler=sampler, clients_per_round=None).records)
  with pytest.raises(ValueError, match='at most 2 clients, .* got 3 from'):
    simulate(3, sampler=lambda r: [0, 1, 2])
  with pytest.raises(ValueError, match='must be left out beside a sampler'):
    simulate(sampler=sampler)
  with pytest.raises(ValueError, match='sampler must be'):
    simulate(sampler='by_luck')


def test_by_size_draws_in_proportion_to_size():
  sizes = np.array([0, 10, 30, 60])
  sampler = fs.data.sampling.by_size(sizes, 1, seed=3)
  drawn = np.concatenate([sampler.sample(r) for r in range(4000)])
  share = np.bincount(drawn, minlength=4) / len(drawn)
  # Four standard deviations of a share are below 0.032.
  np.testing.assert_allclose(share, sizes / 100, atol=0.032)
  assert share[0] == 0
  with pytest.raises(ValueError, match='clients_per_round must be at most'):
    fs.data.sampling.by_size(sizes, 4, seed=0)


def test_predictions_equal_the_model_whatever_the_batch(whole):
  params = jax.device_get(whole.variables.params)
  want = TEST['x'] @ params['w'] + params['b']
  for size in (1000, 10, 55):
    np.testing.assert_allclose(
        whole.predict(TEST['x'], batch_size=size), want, rtol=1e-5, atol=1e-6)


def test_inputs_of_predictions(whole):
  x = TEST['x'][:3]
  np.testing.assert_array_equal(whole.predict(x.tolist()), whole.predict(x))
  for wrong, message in (
      ('text', r"an array \[E, ...\] of numbers.*got 'text'"),
      (3.0, 'got 3.0'), ([[1.0], [1.0, 2.0]], 'the same shape'),
      ({}, 'got {}'),
      ({'x': x}, "got {'x': 'float32"), (x[:, :-1], r'parameters .*\['),
      ({'x': x, 'z': x[:1]}, r'as many rows .*\[1, 3\]')):
    with pytest.raises(ValueError, match=f'inputs must .*{message}'):
      whole.predict(wrong)


def test_rounds_to_a_value(whole):
  """Between the evaluations around it, of the trained model."""
  rounds, loss = whole.curve('test/loss')
  assert (np.diff(loss[:3]) < 0).all()  # Each is the best so far.
  between = whole.rounds_to(0.75 * loss[1] + 0.25 * loss[2], 'test/loss')
  assert between == pytest.approx(1.25)
  assert whole.rounds_to(loss[0], 'test/loss') == 1  # Round 0 doesn't count.
  assert whole.rounds_to(-1.0, 'test/loss') is None
  assert whole.rounds_to(0.0) == 1
  with pytest.raises(ValueError, match="no record has metric 'test/f1'"):
    whole.rounds_to(0.5, 'test/f1')


def test_records_as_a_frame(whole):
  frame = whole.to_pandas()
  assert frame['round'].tolist() == list(range(ROUNDS + 1))
  assert frame['test/loss'].iloc[-1] == whole.records[-1]['test/loss']


def test_divergence_is_raised_or_noted(tmp_path):
  wild = fedavg(1e38)
  with pytest.raises(fs.DivergenceError) as caught:
    simulate(algorithm=wild)
  assert [r['round'] for r in caught.value.records] == list(
      range(caught.value.round))
  result = simulate(algorithm=wild, on_divergence='continue')
  assert result.diverged.round == caught.value.round
  assert result.records[-1]['round'] == ROUNDS
  with pytest.raises(fs.DivergenceError):
    simulate(algorithm=wild, workdir=tmp_path)
  file = tmp_path / 'metrics.jsonl'
  assert [r['round'] for r in metrics.read(file)] == list(
      range(caught.value.round))


def test_ctrl_c_keeps_what_is_done(tmp_path):
  def press(state, record):
    if record['round'] == 2:
      signal.raise_signal(signal.SIGINT)
  before = signal.getsignal(signal.SIGINT)
  result = simulate(callbacks=[press], workdir=tmp_path)
  assert result.interrupted and not result.stopped
  assert result.records[-1]['round'] == 2
  assert signal.getsignal(signal.SIGINT) is before
  assert_same(simulate(workdir=tmp_path), simulate())


@pytest.mark.parametrize('wrong, message', [
    ({'callbacks': [3]}, 'callbacks must be functions'),
    ({'callbacks': [lambda state: None]}, r'of two arguments.*takes \(state\)'),
    ({'test': fs.data.Dataset('a', {}, {}, 2)},
     'such as dataset.test, got a whole Dataset'),
    ({'workdir': 3}, 'workdir must be a path or None, got 3'),
    ({'resume_from': 3}, 'resume_from must be a Result, the folder .*, got 3'),
    ({'client_eval_every': 2}, 'client_eval_every needs client_test'),
    ({'client_test': DATA}, 'client_test needs client_eval_every'),
    ({'client_test': TEST, 'client_eval_every': 1}, 'client_test must be'),
    ({'client_test': toys.softmax_data([4, 7]), 'client_eval_every': 1},
     'train and client_test must hold the same clients'),
    ({'best_mode': 'max'}, 'best_mode needs best_metric'),
    ({'on_divergence': 'pause'}, 'on_divergence must be'),
    ({'targets': (2,)}, r'targets must lie in \[0, 1\]'),
    ({'resume_from': 'nowhere'}, "no checkpoints in 'nowhere'"),
])
def test_wrong_arguments_are_named(wrong, message):
  with pytest.raises(ValueError, match=message):
    simulate(**wrong)


def test_python_and_the_command_line_leave_the_same(tmp_path):
  config = digits_quickstart.get_config()
  config.update({
      'rounds': 4, 'model': 'logistic_regression', 'devices': 1, 'lanes': 5,
      'client_test_fraction': 0.2, 'client_eval_every': 2,
      'best_metric': 'test/loss', 'record_cohort': True, 'targets': (0.3,)})
  assert run_lib.run(config, 'x', workdir_path=tmp_path / 'cli') == 0
  dataset = build_run.load_dataset(config)
  names, partition, held_out = build_run.deal(config, dataset)
  model = build_run.make_model(config, dataset)
  fs.simulate(
      model, build_algorithm.make_algorithm(
          config, model, num_clients=len(names)),
      federate(dataset.train, partition, names), rounds=4, client_fraction=0.5,
      test=dataset.test, devices=1, lanes=5, client_eval_every=2,
      client_test=federate(dataset.train, held_out, names, allow_empty=True),
      best_metric='test/loss', record_cohort=True, targets=(0.3,),
      workdir=tmp_path / 'python')
  listed = [sorted(str(p.relative_to(tmp_path / side))
                   for p in (tmp_path / side).iterdir())
            for side in ('cli', 'python')]
  assert listed[0] == listed[1]
  read = lambda side, name: (tmp_path / side / name)
  assert bits(metrics.read(read('cli', 'metrics.jsonl'))) == bits(
      metrics.read(read('python', 'metrics.jsonl')))
  for name in ('client_metrics.csv', 'clients.json'):
    assert read('cli', name).read_bytes() == read('python', name).read_bytes()
  for name in ('final_params.npz', 'best_params.npz'):
    with np.load(read('cli', name)) as a, np.load(read('python', name)) as b:
      assert sorted(a.files) == sorted(b.files) and a.files
      for leaf in a.files:
        np.testing.assert_array_equal(a[leaf], b[leaf])
  # A config's folder tells its model; one from Python needs it.
  cli, python = fs.load(tmp_path / 'cli'), fs.load(
      tmp_path / 'python', model=model)
  np.testing.assert_array_equal(
      cli.predict(dataset.test['x']), python.predict(dataset.test['x']))
  with pytest.raises(ValueError, match='needs model='):
    fs.load(tmp_path / 'python')
  with pytest.raises(ValueError, match='holds a run of a config'):
    fs.simulate(model, fs.algorithms.fedavg(model, optax.sgd(0.1)), DATA,
                rounds=1, clients_per_round=1, workdir=tmp_path / 'cli')
  warm = starting.initial(tmp_path / 'cli', model)
  jax.tree.map(np.testing.assert_array_equal, warm, python.variables)


def test_a_sweep_from_python_is_that_of_the_command_line(tmp_path):
  config = digits_quickstart.get_config()
  config.update({
      'rounds': 3, 'model': 'logistic_regression', 'devices': 1, 'lanes': 5,
      'partition': 'quantity(sigma=1.0, seed=7)', 'client_test_fraction': 0.0,
      'sampler': 'by_size'})
  run_sweep.run(config.lock(), 'x', {'seed': [0, 1], 'client_lr': [0.1, 0.3]},
                str(tmp_path))
  dataset = build_run.load_dataset(config)
  names, partition, _ = build_run.deal(config, dataset)
  model = build_run.make_model(config, dataset)
  found = fs.sweep(
      model, lambda rate: fs.algorithms.fedavg(
          model, optax.sgd(rate), batch_size=10),
      federate(dataset.train, partition, names), rounds=3, client_fraction=0.5,
      sampler='by_size', test=dataset.test, devices=1, lanes=5, seeds=[0, 1],
      learning_rates=[0.1, 0.3])
  for (seed, rate), result in found.items():
    folder = tmp_path / f'seed={seed},client_lr={rate:g}'
    for got, want in zip(
        bits(result.records), bits(metrics.read(folder / 'metrics.jsonl')),
        strict=True):
      assert got == pytest.approx(want, rel=1e-5)
