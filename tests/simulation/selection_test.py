"""Cohorts that are chosen by losses: Power-of-Choice and Oort."""

import jax
import numpy as np
import optax
import pytest

import fedjax_sim as fs
from configs import digits_quickstart
from fedjax_sim import algorithms, data, systems
from fedjax_sim.data.selector import Feedback, Question
from fedjax_sim.experiment import build_sweep, spec_fields, sweep_settings
from fedjax_sim.simulation import build as build_lib
from fedjax_sim.simulation import sweep, sweep_runs
from fedjax_sim.simulation.drive import drive
from fedjax_sim.simulation.exchange_types import Told
from tests import toys

MODEL = toys.softmax_model()
SIZES = (5, 8, 3, 9, 4, 7, 2, 6, 8, 1, 4, 0)
DATA = toys.softmax_data(SIZES)
N, M = len(SIZES), 3
USABLE = 11


def fedavg(**kwargs):
  return algorithms.fedavg(
      MODEL, optax.sgd(0.3), **{'batch_size': 16} | kwargs)


def simulate(sampler, rounds=5, **options):
  return fs.simulate(MODEL, fedavg(), DATA, rounds=rounds, sampler=sampler,
                     **{'devices': 1, 'lanes': 2} | options)


def rounds_of(sampler, rounds=5, algorithm=None, **options):
  """(weights before each round, cohorts, the last state)."""
  one = build_lib.build(MODEL, algorithm or fedavg(), DATA, sampler,
                        **{'devices': 1, 'lanes': 2} | options)
  state = one.init()
  weights, cohorts = [jax.device_get(state.server.variables.params)], []
  for progress in drive(one, state, rounds):
    (record,) = progress.records[0]  # A dispatch is one round.
    weights.append(jax.device_get(progress.state.server.variables.params))
    cohorts.append([int(k) for k in record['cohort']])
    state = progress.state
  return weights, cohorts, state


def example_losses(weights, client):
  """float64 [n]: cross entropy of each of a client's examples."""
  rows = slice(DATA.offsets[client], DATA.offsets[client + 1])
  x = np.float64(DATA.examples['x'][rows])
  scores = x @ np.float64(weights['w']) + weights['b']
  right = scores[np.arange(len(x)), DATA.examples['y'][rows]]
  return np.log(np.exp(scores).sum(1)) - right


def mean_losses(weights):
  """float64 [N]; -infinity of a client without examples."""
  return np.array([example_losses(weights, k).mean() if SIZES[k] else -np.inf
                   for k in range(N)])


@pytest.mark.parametrize('options', [
    {}, {'losses': 'batch', 'batch_size': 16}, {'by_size': False}])
def test_power_of_choice_takes_the_highest_losses(options):
  """All are candidates, so no draw matters."""
  sampler = data.power_of_choice(
      DATA.sizes, M, 0, candidates=USABLE, **options)
  weights, cohorts, _ = rounds_of(sampler)
  want = [np.argsort(-mean_losses(one))[:M].tolist() for one in weights[:-1]]
  assert cohorts == want
  assert len({tuple(one) for one in want}) > 1


def test_devices_measure_the_same():
  sampler = data.power_of_choice(DATA.sizes, M, 0, candidates=7)
  _, one, _ = rounds_of(sampler)
  _, two, _ = rounds_of(sampler, devices=2, lanes=3)
  assert one == two


def test_candidates_are_drawn_and_the_best_of_them_chosen():
  losses = np.random.default_rng(0).normal(size=N)
  sampler = data.power_of_choice(DATA.sizes, M, 7, candidates=6)
  asked = []

  def measure(clients):
    asked.append(clients)
    return losses[clients]

  for r in range(200):
    chosen, _ = sampler.selector.choose((), Question(r, M, None, measure))
    drawn = asked[-1]
    assert len(set(drawn)) == 6 and N - 1 not in drawn
    want = drawn[np.argsort(-losses[drawn])[:M]]
    np.testing.assert_array_equal(chosen, want)
  # In proportion to size: one of nine examples far more often than one of one.
  counts = np.bincount(np.concatenate(asked), minlength=N)
  assert counts[3] > 2 * counts[9] > 0
  few = np.array([0, 2, 9, 11])
  chosen, _ = sampler.selector.choose((), Question(0, M, few, measure))
  assert set(chosen) == {0, 2, 9}


def test_a_stale_loss_is_that_of_the_last_participation():
  sampler = data.power_of_choice(
      DATA.sizes, M, 0, candidates=USABLE, losses='stale')
  weights, cohorts, state = rounds_of(sampler, rounds=6)
  # Those never heard come first: eleven in four rounds.
  assert len({k for one in cohorts[:4] for k in one}) == USABLE
  want = np.full(N, np.inf)
  for one, cohort in zip(weights[:4], cohorts, strict=False):
    want[cohort] = mean_losses(one)[cohort]  # One step on all local data.
  np.testing.assert_array_equal(
      cohorts[4], np.argsort(-np.where(DATA.sizes, want, -np.inf))[:M])
  for one, cohort in zip(weights[4:], cohorts[4:], strict=False):
    want[cohort] = mean_losses(one)[cohort]
  np.testing.assert_allclose(state.host.memory, want, rtol=1e-5)


def test_oort_remembers_the_squares_of_losses():
  sampler = data.oort(DATA.sizes, M, 0)
  weights, cohorts, state = rounds_of(sampler, rounds=4)
  memory = state.host.memory
  want, last = np.full(N, np.nan), np.zeros(N)
  for r, (one, cohort) in enumerate(zip(weights, cohorts, strict=False)):
    for k in cohort:
      want[k] = SIZES[k] * np.sqrt(np.mean(example_losses(one, k) ** 2))
      last[k] = r + 1
  np.testing.assert_allclose(memory.utility, want, rtol=1e-5)
  np.testing.assert_array_equal(memory.last, last)
  np.testing.assert_array_equal(
      memory.chosen, np.bincount(np.concatenate(cohorts), minlength=N))


def heard(sampler, utility, rounds):
  """A memory in which each client was heard, client k in `rounds[k]`."""
  memory = sampler.selector.init()
  for r in sorted(set(rounds)):
    clients = np.flatnonzero(np.array(rounds) == r)
    values = (utility[clients] / DATA.sizes[clients]) ** 2
    memory = sampler.selector.learn(memory, Feedback(r - 1, clients, values))
  return memory


@pytest.mark.parametrize('timed', [False, True])
def test_oort_prefers_as_its_formula_says(timed):
  """Without exploration, and with a cutoff at the last that fits in."""
  options = dict(exploration=0.0, least_exploration=0.0, cutoff=1.0)
  sampler = data.oort(DATA.sizes, M, 0, preferred=2.0, alpha=1.5, **options)
  rng = np.random.default_rng(1)
  utility = rng.uniform(1, 3, USABLE)
  utility[4] = 100.0  # An outlier, which is clipped.
  rounds = [1 + k % 7 for k in range(USABLE)]
  seconds = np.append(rng.uniform(0.5, 8, USABLE), np.inf)
  ask = lambda r: Question(r, M, None, None, seconds if timed else None)
  memory = heard(sampler, utility, rounds)
  _, memory = sampler.selector.choose(memory, ask(0))  # T begins.
  chosen, _ = sampler.selector.choose(memory, ask(9))
  worth = []
  for k in range(USABLE):
    value = min(utility[k], np.percentile(utility, 95))
    value += np.sqrt(0.1 * np.log(10) / rounds[k])
    if timed and seconds[k] > 2.0:
      value *= (2.0 / seconds[k]) ** 1.5
    worth.append(value)
  assert set(chosen) == set(np.argsort(worth)[-M:])


def test_oort_explores_fast_clients_and_less_and_less():
  sizes = np.ones(1000, int)
  sampler = data.oort(sizes, 100, 0, exploration=0.8, exploration_decay=0.5,
                      least_exploration=0.1)
  choose = sampler.selector.choose
  seconds = np.where(np.arange(1000) < 500, 1.0, 10.0)
  memory = sampler.selector.learn(sampler.selector.init(), Feedback(
      0, np.arange(0, 1000, 4), np.ones(250)))
  new = []
  for r in range(5):
    chosen, _ = choose(memory, Question(r, 100, None, None, seconds))
    assert len(set(chosen)) == 100
    new.append(chosen[chosen % 4 > 0])
  assert [len(one) for one in new] == [80, 40, 20, 10, 10]
  assert np.mean(new[0] < 500) > 0.75  # 10/11 at first, if there were enough.


def test_oort_relaxes_the_preferred_time_and_rests_clients():
  sampler = data.oort(DATA.sizes, M, 0, preferred=1.0, pacer_step=0.5,
                      pacer_window=2, most_rounds=2)
  memory = sampler.selector.init()
  preferred, often = [], []
  for r in range(12):
    chosen, memory = sampler.selector.choose(
        memory, Question(r, M, None, None, np.ones(N)))
    often.append(chosen)
    falling = 1.0 / (r + 1) ** 4
    memory = sampler.selector.learn(memory, Feedback(
        r, np.sort(chosen), np.full(M, falling)))
    preferred.append(float(memory.preferred))
  assert preferred == [1.0] * 4 + [1.5] * 2 + [2.0] * 2 + [2.5] * 2 + [3.0] * 2
  # Two rounds for each of eleven: after seven rounds one is over.
  counts = np.bincount(np.concatenate(often[:7]), minlength=N)
  assert counts.max() == 2


POPULATION = dict(
    systems=systems.lognormal(
        failures=systems.failures(0.1), available=systems.sporadic(0.9)),
    reporting=systems.window(over_selection=1.5))


@pytest.mark.parametrize('sampler', [
    data.oort(DATA.sizes, M, 0),
    pytest.param(data.power_of_choice(
        DATA.sizes, M, 0, candidates=6, losses='stale'),
                 marks=pytest.mark.slow),
    pytest.param(data.power_of_choice(
        DATA.sizes, M, 0, candidates=6, losses='batch', batch_size=2),
                 marks=pytest.mark.slow)],
    ids=['oort', 'stale', 'batch'])
def test_a_run_that_goes_on_chooses_the_same(tmp_path, sampler):
  options = dict(checkpoint_seconds=0.0, **POPULATION)
  whole = simulate(sampler, 6, **options)
  simulate(sampler, 3, workdir=tmp_path, **options)
  rest = simulate(sampler, 6, resume_from=tmp_path, **options)
  jax.tree.map(np.testing.assert_array_equal, rest.state, whole.state)
  compared = lambda result: [
      {name: value for name, value in record.items() if name != 'seconds'}
      for record in result.records]
  assert compared(rest) == compared(whole)
  other = data.oort(DATA.sizes, M, 0, alpha=1.0)
  with pytest.raises(ValueError, match='selector'):
    simulate(other, 6, workdir=tmp_path, **options)


def test_the_record_says_what_choosing_costs():
  devices = systems.identical(0.5, down_bps=1e3, up_bps=320.0)
  sampler = data.power_of_choice(DATA.sizes, M, 0, candidates=6)
  plain, timed = simulate(sampler, 2), simulate(sampler, 2, systems=devices)
  one, other = plain.records[-1], timed.records[-1]
  assert one['cohort'] == other['cohort']
  assert one['measured'] == 6
  model, message = 4 * 15, 4 * 16  # Weights; and the number of examples.
  for record in (one, other):
    assert record['bytes_down_selection'] == 3 * model + 3 * 4  # The round.
    assert record['bytes_down'] == 6 * (model + 4)
    assert record['bytes_up_selection'] == 6 * 4
    assert record['bytes_up'] == M * message + 6 * 4
  down = 8 * (model + 4) / 1e3
  assert other['selection_seconds'] == pytest.approx(
      down + 0.5 / 3 + 32 / 320)
  # Who takes part has the model already.
  assert other['duration'] == pytest.approx(
      other['selection_seconds'] + 0.5 + 8 * message / 320)
  assert other['simulated_seconds'] == pytest.approx(2 * other['duration'])


def test_nothing_is_told_of_slots_unless_it_is_asked():
  uniform = data.sampling.uniform(N, M, 0)
  for sampler, want in (
      (uniform, Told()),
      (data.power_of_choice(DATA.sizes, M, 0, candidates=6), Told())):
    one = build_lib.build(MODEL, fedavg(), DATA, sampler, devices=1, lanes=2)
    assert one.trace().out_info[1].told == want
  assert build_lib.build(
      MODEL, fedavg(), DATA, uniform, devices=1, lanes=2).init().host == ()


def test_what_can_not_be_is_refused():
  choice = lambda **options: data.power_of_choice(DATA.sizes, M, 0, **options)
  window = systems.window
  for make, message in (
      (lambda: choice(candidates=2), 'candidates must be from clients_per'),
      (lambda: choice(candidates=12), 'to 11, the clients that have'),
      (lambda: choice(candidates=5, losses='some'), 'losses must be one of'),
      (lambda: choice(candidates=5, losses='batch'), 'batch_size must be giv'),
      (lambda: choice(candidates=5, batch_size=3), 'batch_size must be given'),
      (lambda: choice(candidates=5, measuring=-1.0), 'measuring must'),
      (lambda: data.oort(DATA.sizes, 12, 0), 'clients_per_round must be at'),
      (lambda: data.oort(DATA.sizes, M, 0, cutoff=1.1), 'cutoff must lie'),
      (lambda: data.oort(DATA.sizes, M, 0, exploration_decay=0.0),
       'exploration_decay must'),
      (lambda: data.oort(DATA.sizes, M, 0, most_rounds=0), 'most_rounds must'),
      (lambda: data.oort(DATA.sizes, M, 0, least_exploration=0.95),
       'exploration must be at least least_exploration = 0.95'),
      (lambda: simulate(data.oort(DATA.sizes, M, 0, alpha=1.0, pacer_step=5.0)),
       'sampler must not have alpha or pacer_step without systems'),
      (lambda: simulate(choice(candidates=4), systems=systems.identical(),
                        reporting=window(over_selection=2)),
       'reporting must choose at most the 4 .* over_selection = 2, which cho'),
      (lambda: simulate(choice(candidates=4), examples='owned'),
       'sampler measures losses on examples that must be on all devices'),
      (lambda: simulate(
          choice(candidates=4), systems=systems.identical(),
          reporting=systems.asynchronous(5)), 'reporting must have rounds')):
    with pytest.raises(ValueError, match=message):
      make()


def test_members_of_a_sweep_are_runs_of_their_own():
  members = [sweep.Member(0, {'rate': 0.1}), sweep.Member(1, {'rate': 0.2})]
  built = sweep.build(
      MODEL, lambda rate: algorithms.fedavg(
          MODEL, optax.sgd(rate), batch_size=2), [DATA], cohort_size=M,
      num_members=2, example={'rate': 0.1}, devices=1,
      make_sampler=lambda seed: data.oort(DATA.sizes, M, seed))
  with pytest.raises(ValueError, match='run them one after the other'):
    sweep_runs.SweepRuns(sweep=built, members=members)


def test_specs_name_them_and_a_sweep_runs_them_one_by_one():
  config = digits_quickstart.get_config()
  fields = {'seed': [0, 1], 'client_lr': [0.1, 0.2]}
  config.sampler = 'uniform'
  assert len(sweep_settings.groups(config, fields)) == 1
  for spec in ('power_of_choice(candidates=20)', 'oort(exploration=0.5)'):
    config.sampler = spec
    groups = sweep_settings.groups(config, fields)
    assert [len(settings) for _, settings in groups] == [1] * 4
    assert spec_fields.bind('sampler', spec)
  config.sampler = 'oort(cutoff=2)'
  with pytest.raises(ValueError, match='sampler=oort.* cutoff must lie in'):
    build_sweep.check(sweep_settings.groups(config, fields))
