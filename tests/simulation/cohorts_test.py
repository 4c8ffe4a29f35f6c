"""What a sampler may draw: clients, and none twice that keeps a state."""

import jax
import numpy as np
import optax
import pytest

from fedjax_sim import aggregation, algorithms
from fedjax_sim.data import sampling
from fedjax_sim.simulation import build, drive, sweep, sweep_runs
from tests import toys

MODEL = toys.softmax_model()
DATA = toys.softmax_data([4, 4, 4, 4])


def fedavg(rate, **options):
  return algorithms.fedavg(
      MODEL, optax.sgd(rate), batch_size=2, **options)


def remembering(rate):
  """FedAvg with a transform that counts how often a client sent."""
  part = aggregation.transform(
      'counted', client=lambda message, state, memory, keys, cohort: (
          message, memory + 1),
      client_init=lambda message: np.float32(0))
  return fedavg(rate, aggregator=aggregation.aggregator(part))


STATEFUL = {
    'algorithm': lambda rate: algorithms.scaffold(MODEL, rate, batch_size=2),
    'transform': remembering,
}


def cohorts(*rounds):
  return sampling.Sampler(lambda r: np.array(rounds[r]), 3, 4)


def single(make, sampler):
  return build.build(MODEL, make(0.1), DATA, sampler, devices=1, lanes=1)


def swept(make, sampler):
  members = [sweep.Member(0, {'rate': 0.1}), sweep.Member(1, {'rate': 0.2})]
  built = sweep.build(
      MODEL, make, [DATA], cohort_size=3, num_members=2,
      example={'rate': 0.1}, make_sampler=lambda seed: sampler, devices=1)
  return sweep_runs.SweepRuns(sweep=built, members=members)


def plans(runs):
  """Plans a window of two rounds from the second on."""
  state = (jax.eval_shape(lambda: 0) if not hasattr(runs, 'sweep')
           else sweep.SweepState(None, np.arange(2), None))
  return runs.window(1, 3, lambda r: False, state=state, active={0, 1})


@pytest.mark.parametrize('make', STATEFUL.values(), ids=STATEFUL)
@pytest.mark.parametrize('runs', [single, swept])
def test_a_client_with_a_state_is_in_a_cohort_once(runs, make):
  plans(runs(make, cohorts([0, 0], [1, 2], [2, 3, 0])))
  with pytest.raises(ValueError, match=(
      r'the cohort of round 3, sampler\(2\), holds client 2 more than once, '
      'but the algorithm or a transform keeps a state')):
    plans(runs(make, cohorts([0], [1, 2], [2, 3, 2])))


@pytest.mark.parametrize('runs', [single, swept])
def test_a_client_without_one_may_be_there_twice(runs):
  plans(runs(fedavg, cohorts([0], [1, 1], [2, 2, 2])))


@pytest.mark.parametrize('cohort, message', [
    ([0, 4], 'must hold numbers of clients, from 0 to 3, got 4'),
    ([-1], 'must hold numbers of clients, from 0 to 3, got -1'),
    ([0.0, 1.0], 'must be an array of whole numbers, got float64'),
    ([True, False], 'must be an array of whole numbers, got bool'),
    ([[0, 1]], r'must be an array of whole numbers, got int64\[1, 2\]'),
    ([0, 1, 2, 3], 'does not fit'),
])
@pytest.mark.parametrize('runs', [single, swept])
def test_what_is_no_cohort_is_refused(runs, cohort, message):
  with pytest.raises(ValueError, match=message):
    plans(runs(fedavg, cohorts([0], cohort, [1])))


def test_a_run_is_stopped_by_it():
  runs = single(STATEFUL['algorithm'], cohorts([0, 1], [1, 1]))
  with pytest.raises(ValueError, match='of round 2, .* holds client 1'):
    for _ in drive.drive(runs, runs.init(), 2):
      pass
