"""`sweep`: `simulate` for every seed and every client learning rate."""

from collections.abc import Callable, Sequence

import numpy as np

from fedjax_sim.core import argument_kinds, checks, random
from fedjax_sim.core.types import FederatedAlgorithm, Model, PyTree
from fedjax_sim.data import sampling
from fedjax_sim.data.federated import FederatedData
from fedjax_sim.experiment import loop
from fedjax_sim.experiment.prepare import sampler_of, systems_of
from fedjax_sim.experiment.result import Result
from fedjax_sim.simulation import plan as plan_lib
from fedjax_sim.simulation import sweep as sweep_lib
from fedjax_sim.simulation.build import build
from fedjax_sim.simulation.drive import Progress, Runs
from fedjax_sim.simulation.sweep_runs import SweepRuns
from fedjax_sim.systems import Population, Reporting


@argument_kinds.checked
def sweep(
    model: Model,
    make_algorithm: Callable[[float], FederatedAlgorithm],
    train: FederatedData,
    *,
    rounds: int,
    seeds: Sequence[int],
    learning_rates: Sequence[float],
    clients_per_round: int | None = None,
    client_fraction: float | None = None,
    sampler: sampling.Sampler | Callable[[int], np.ndarray] | str = 'uniform',
    test: PyTree | None = None,
    eval_every: int = 1,
    devices: int | str = 'auto',
    lanes: int | str = 'auto',
    systems: Population | None = None,
    reporting: Reporting | None = None,
    precision: str = 'auto',
    on_dispatch: Callable[[Progress], None] = lambda progress: None,
) -> dict[tuple[int, float], Result]:
  """`simulate` for every seed and every client learning rate.

  All runs share the federation; a seed sets initial weights, cohorts, orders
  and dropout. With one seed and one rate it is that run, to the same bits.

  Args:
    model: the model.
    make_algorithm: client learning rate -> FederatedAlgorithm, such as
      `lambda rate: fedavg(model, optax.sgd(rate))`.
    train: the federation.
    rounds: how many.
    seeds: distinct whole numbers.
    learning_rates: distinct positive numbers.
    clients_per_round: as in `simulate`, like the next ones.
    client_fraction: of the clients.
    sampler: who takes part, as in `simulate`. 'uniform' and 'by_size' draw with
      each run's seed; a function or a Sampler gives all runs the same cohorts.
      Where one chooses by losses, runs go one after the other.
    test: test examples.
    eval_every: rounds.
    devices: D.
    lanes: W.
    systems: as in `simulate`; each seed draws its own devices.
    reporting: likewise.
    precision: of products.
    on_dispatch: called after each dispatch, with its progress; members are
      numbered rates first.

  Returns:
    (seed, rate) -> Result. One that has diverged ends with its last good round;
    its state is not finite.

  Raises:
    ValueError: an argument is out of range, or data don't fit the model.
  """
  checks.positive_int('rounds', rounds)
  checks.positive_int('eval_every', eval_every)
  for name, values, check in (
      ('seeds', seeds, random.seed),
      ('learning_rates', learning_rates, checks.positive)):
    for value in values:
      check(name, value)
    if not values or len(set(values)) != len(values):
      raise ValueError(f'{name} must be distinct, and at least one, got '
                       f'{list(values)}.')
  make_sampler = lambda seed: sampler_of(
      sampler, train, clients_per_round, client_fraction, seed)
  settings = [(seed, rate) for seed in seeds for rate in learning_rates]
  groups = [settings]
  if make_sampler(seeds[0]).selector is not None:
    groups = [[setting] for setting in settings]
  cadence = loop.Cadence(rounds, plan_lib.evaluate_after(eval_every, rounds))
  results = []
  for group in groups:
    runs, state = _runs(
        model, make_algorithm, train, group, make_sampler, rounds, test=test,
        devices=devices, lanes=lanes, systems=systems_of(systems, reporting),
        precision=precision)
    results += _trained(runs, state, cadence, len(results), on_dispatch)
  return dict(zip(settings, results, strict=True))


def _trained(
    runs: Runs, state: PyTree, cadence: loop.Cadence, first: int,
    on_dispatch: Callable[[Progress], None],
) -> list[Result]:
  """The results of runs that the caller numbers from `first`."""
  initial = loop.evaluate_initial(runs, state, {})
  records = [[initial[i]] if i in initial else []
             for i in range(len(runs.done(state)))]
  numbered = lambda values: {first + i: one for i, one in values.items()}
  for progress in loop.proceed(
      runs, state, cadence, files={}, checkpoints=loop.NoCheckpoints(),
      traffic=runs.bytes_per_client()):
    for i, new in progress.records.items():
      records[i] += new
    state = progress.state
    on_dispatch(progress._replace(
        records=numbered(progress.records),
        diverged=numbered(progress.diverged)))
  return [Result(runs.state_of(state, i), own)
          for i, own in enumerate(records)]


def _runs(
    model, make_algorithm, train, settings, make_sampler, rounds: int, **options
) -> tuple[Runs, PyTree]:
  """The runs, and their state before the first round."""
  if len(settings) == 1:  # Without an axis of one.
    ((seed, rate),) = settings
    simulation = build(
        model, make_algorithm(rate), train, make_sampler(seed), seed=seed,
        rounds=rounds, **options)
    return simulation, simulation.init()
  members = [sweep_lib.Member(seed, {'rate': rate}) for seed, rate in settings]
  sweep = sweep_lib.build(
      model, lambda rate: make_algorithm(rate), [train],
      cohort_size=make_sampler(members[0].seed).max_cohort,
      make_sampler=make_sampler, num_members=len(members),
      example=members[0].hyperparameters, say=print, **options)
  return SweepRuns(sweep=sweep, members=members), sweep.init(members)
