"""From the arguments of `simulate` to a session that can begin, or go on."""

import contextlib
import inspect
import types
from collections.abc import Callable, Generator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fedjax_sim.core import checks, warning
from fedjax_sim.core.types import FederatedAlgorithm, Model, PyTree, Variables
from fedjax_sim.data import sampling
from fedjax_sim.data.federated import FederatedData
from fedjax_sim.data.poisson import poisson
from fedjax_sim.experiment import best as best_lib
from fedjax_sim.experiment import (
    fingerprint,
    loop,
    metrics,
    processes,
    results,
    starting,
    workdir,
)
from fedjax_sim.experiment import session as session_lib
from fedjax_sim.experiment.best import Best
from fedjax_sim.experiment.result import Loaded, Result
from fedjax_sim.experiment.session import Callback, Session
from fedjax_sim.simulation import in_time
from fedjax_sim.simulation import plan as plan_lib
from fedjax_sim.simulation.build import build
from fedjax_sim.simulation.check_clients import check_clients
from fedjax_sim.simulation.records import Record
from fedjax_sim.simulation.rounds import SimulationState
from fedjax_sim.simulation.simulation import Simulation
from fedjax_sim.systems import Population, Reporting

# What stands in config.json for the config of a run from Python.
_MADE_BY = 'fedjax_sim.simulate'
# Rounds of a run that goes on until it is left.
_ENDLESS = 2 ** 31 - 1
_PROGRAM = 'model and algorithm'


class Options(NamedTuple):
  """The arguments of `simulate`; see there.

  Attributes:
    every_round: whether each round is a step.
  """

  model: Model
  algorithm: FederatedAlgorithm
  train: FederatedData
  rounds: int | None
  clients_per_round: int | None = None
  client_fraction: float | None = None
  sampler: sampling.Sampler | Callable[[int], np.ndarray] | str = 'uniform'
  test: PyTree | None = None
  more_sets: Mapping[str, PyTree] | None = None
  eval_every: int = 1
  eval_batch_size: int = 1000
  client_test: FederatedData | None = None
  client_eval_every: int = 0
  record_cohort: bool = False
  best_metric: str | None = None
  best_mode: str | None = None
  callbacks: Sequence[Callback] = ()
  initial: Result | Loaded | Variables | PyTree | str | Path | None = None
  resume_from: Result | str | Path | None = None
  workdir: str | Path | None = None
  checkpoint_seconds: float = 30.0
  keep_checkpoints: int = 3
  targets: Sequence[float] = ()
  on_divergence: str = 'stop'
  seed: int = 0
  devices: int | str = 'auto'
  lanes: int | str = 'auto'
  examples: str = 'auto'
  client_state: str = 'auto'
  systems: Population | None = None
  reporting: Reporting | None = None
  precision: str = 'auto'
  rounds_per_dispatch: int | None = None
  every_round: bool = False


class Prepared(NamedTuple):
  """A session with its first state.

  Attributes:
    session: what is to be done.
    state: where to start.
    earlier: records of the rounds before that.
    saved: gets checkpoints.
  """

  session: Session
  state: SimulationState
  earlier: list[Record]
  saved: loop.Keeper

  @property
  def start(self) -> int:
    """Rounds done."""
    return int(self.state.server.round)

  def steps(self, stop: Callable[[], bool]) -> Generator:
    """See `session.steps`."""
    return session_lib.steps(
        self.session, self.state, self.earlier, self.saved, stop)


def prepare(
    given: Options, stack: contextlib.ExitStack,
    say: Callable[[str], None] = lambda text: None,
) -> Prepared:
  """Checks the arguments, builds the simulation, finds where to go on.

  Args:
    given: the arguments.
    stack: holds the run's folder until it is closed.
    say: told what takes a while, before it begins.

  Raises:
    ValueError: see `simulate`.
  """
  _check(given)
  given = given._replace(initial=starting.initial(given.initial, given.model))
  folder = None if given.workdir is None else Path(given.workdir)
  record = None
  if folder is not None:
    made = workdir.prepare(folder)
    stack.enter_context(loop.exclusive(folder))
    stack.enter_context(workdir.unmade_if_refused(made))
    record = workdir.read_record(folder)
  simulation = _build(given, record, say)
  check_clients(given.model, given.train, given.client_test)
  session = _session(given, simulation, folder)
  if folder is None:
    state, earlier = starting.first(given, simulation, None)
    return Prepared(session, state, earlier, loop.NoCheckpoints())
  _claim(given, simulation, folder, record)
  return _in_folder(given, session, stack)


def _in_folder(
    given: Options, session: Session, stack: contextlib.ExitStack
) -> Prepared:
  """The session with what its folder holds."""
  from fedjax_sim.experiment import client_checkpoints
  from fedjax_sim.experiment.checkpoints import Checkpoints
  folder, file = session.folder, session.folder / loop.METRICS_FILE
  saved = client_checkpoints.RunCheckpoints(
      checkpoints=stack.enter_context(Checkpoints(
          folder / 'checkpoints', given.keep_checkpoints)), folder=folder)
  states = folder / client_checkpoints.FOLDER
  if saved.latest() is None:
    state, earlier = starting.first(given, session.simulation, states)
    metrics.truncate_after(file, -1)
    metrics.append(file, earlier)
    return Prepared(session, state, earlier, saved)
  if given.rounds is not None and saved.latest() >= given.rounds:
    results.check_rounds(folder, saved.latest(), given.rounds, 'rounds')
    why = results.why_not(folder, saved.latest())
    if why is not None and processes.is_first():
      print(f'{why} So the results are written again.', flush=True)
  initial = session.simulation.init(states)
  return Prepared(session, *session_lib.restore(session, initial, saved), saved)


def _build(
    given: Options, record: Mapping[str, Any] | None,
    say: Callable[[str], None],
) -> Simulation:
  from fedjax_sim.experiment.build_run import Shape, shape_before
  shape = Shape.of(given)
  if record is not None:
    shape = shape_before(record, shape)
  return build(
      given.model, given.algorithm, given.train,
      sampler_of(given.sampler, given.train, given.clients_per_round,
                 given.client_fraction, given.seed),
      test=given.test, more_sets=given.more_sets, seed=given.seed,
      **shape._asdict(), examples=given.examples,
      client_state=given.client_state, rounds=given.rounds, say=say,
      eval_batch_size=given.eval_batch_size,
      systems=systems_of(given.systems, given.reporting))


def systems_of(
    population: Population | None, reporting: Reporting | None
) -> in_time.Systems | None:
  """What makes rounds take time; None if nothing does."""
  if population is None:
    if reporting is not None:
      raise ValueError('reporting needs systems, which says how long clients '
                       'take.')
    return None
  return in_time.Systems(
      checks.instance('systems', population, Population, 'systems.phones()'),
      checks.instance('reporting', reporting or Reporting(), Reporting,
                      'systems.window(60)'))


def sampler_of(
    wanted: sampling.Sampler | Callable[[int], np.ndarray] | str,
    train: FederatedData, clients_per_round: int | None,
    client_fraction: float | None, seed: int,
) -> sampling.Sampler:
  """The sampler that arguments of `simulate` stand for; ValueError for none."""
  if isinstance(wanted, sampling.Sampler):
    if (clients_per_round, client_fraction) != (None, None):
      raise ValueError(
          'clients_per_round and client_fraction must be left out beside a '
          f'sampler, which has its own, got {clients_per_round!r} and '
          f'{client_fraction!r}.')
    return wanted
  if not callable(wanted):
    checks.one_of('sampler', wanted, ('uniform', 'by_size', 'poisson'))
  cohort = sampling.cohort_size(
      train.num_clients, clients_per_round=clients_per_round,
      client_fraction=client_fraction)
  if callable(wanted):
    return _from_function(wanted, cohort, train.num_clients)
  if wanted == 'by_size':
    return sampling.by_size(train.sizes, cohort, seed)
  draw = poisson if wanted == 'poisson' else sampling.uniform
  return draw(train.num_clients, cohort, seed)


def _from_function(
    function: Callable[[int], np.ndarray], largest: int, num_clients: int,
) -> sampling.Sampler:
  """A function from a round's number to clients' numbers as a Sampler."""
  def sample(round_number: int) -> np.ndarray:
    cohort = np.asarray(function(round_number))
    if cohort.size > largest:
      raise ValueError(
          f'sampler must give at most {largest} clients, as clients_per_round '
          f'or client_fraction says, got {cohort.size} from '
          f'sampler({round_number}), the cohort of round {round_number + 1}.')
    return cohort

  return sampling.Sampler(sample, largest, num_clients)


def _session(
    given: Options, simulation: Simulation, folder: Path | None
) -> Session:
  best = None
  if given.best_metric:
    best_lib.check_metric(simulation, given.best_metric, 'best_metric')
    best = Best(
        metric=given.best_metric, mode=best_lib.mode_of(
            given.model, given.best_metric, given.best_mode, prefix='best_'),
        field='best_metric',
        path=folder and folder / best_lib.FILE)
  train, rounds = given.train, given.rounds or _ENDLESS
  labels = train.examples.get('y')
  known = isinstance(labels, np.ndarray) and labels.ndim == 1 and (
      np.issubdtype(labels.dtype, np.integer))
  return Session(
      simulation=simulation, folder=folder, targets=given.targets,
      callbacks=given.callbacks, best=best, client_test=given.client_test,
      client_eval_every=given.client_eval_every,
      record_cohort=given.record_cohort,
      partition=np.split(np.arange(train.num_examples), train.offsets[1:-1]),
      labels=labels if known else None,
      cadence=loop.Cadence(
          rounds=rounds,
          evaluate=plan_lib.evaluate_after(given.eval_every, rounds),
          rounds_per_dispatch=given.rounds_per_dispatch,
          checkpoint_seconds=given.checkpoint_seconds,
          stop_on_divergence=given.on_divergence == 'stop',
          pause=lambda r: given.every_round))


def _claim(
    given: Options, simulation: Simulation, folder: Path,
    record: dict[str, Any] | None,
) -> None:
  """Writes config.json, or finds that it is of this run.

  Raises:
    ValueError: it is of another run; names what differs.
  """
  plain = workdir.as_json({
      'made by': _MADE_BY, 'rounds': given.rounds,
      'eval_every': given.eval_every, 'seed': given.seed,
      'devices': given.devices, 'lanes': given.lanes,
      'examples': given.examples, 'client_state': given.client_state,
      'precision': given.precision,
      'start': starting.described(given),
      **fingerprint.of(simulation)})
  if record is not None:
    if record['config'].get('made by') != _MADE_BY:
      raise ValueError(
          f'workdir {str(folder)!r} holds a run of a config, with which run.py '
          'goes on. Name another one; initial= takes the folder, to begin '
          'with its model.')
    before = record['config']
    if _versions(record['environments'][-1]) != _versions(
        workdir.environment()) and before[_PROGRAM] != plain[_PROGRAM]:
      warning.warn(
          f'{folder} was written with other versions of the libraries, so it '
          "can't be told whether the model and the algorithm are the same.")
      before = before | {_PROGRAM: plain[_PROGRAM]}
    workdir.check_same(
        folder, record | {'config': before}, plain,
        'Name another one, or none, and nothing is kept. A model and an '
        'algorithm are compared by a hash of what they compute.')
  from fedjax_sim.experiment.build_run import resolved
  workdir.write_record(folder, plain, resolved(simulation), record)


def _versions(environment: Mapping[str, Any]) -> Any:
  return environment['versions'], environment['git_commit']


def _check(given: Options) -> None:
  """ValueError for what is out of range."""
  if not isinstance(given.train, FederatedData):
    raise ValueError(
        'train must be a federation, as data.federate, data.from_clients and '
        f'data.single make one, got {type(given.train).__name__}.')
  if not isinstance(given.model, Model):
    raise ValueError(
        'model must be a Model, as models.from_linen, models.from_nnx and '
        f'models.from_functions make one, got {type(given.model).__name__}.')
  if given.rounds is not None or not given.every_round:
    checks.positive_int('rounds', given.rounds)
  checks.positive_int('eval_every', given.eval_every)
  checks.at_least('client_eval_every', given.client_eval_every, 0)
  checks.non_negative('checkpoint_seconds', given.checkpoint_seconds)
  checks.positive_int('keep_checkpoints', given.keep_checkpoints)
  checks.one_of('on_divergence', given.on_divergence, ('stop', 'continue'))
  for target in given.targets:
    checks.fraction('targets', target)
  if given.rounds_per_dispatch is not None:
    checks.positive_int('rounds_per_dispatch', given.rounds_per_dispatch)
  if given.client_eval_every and given.client_test is None:
    raise ValueError(
        'client_eval_every needs client_test, the examples to evaluate each '
        'client on.')
  if given.client_test is not None and not given.client_eval_every and (
      given.workdir is None):
    raise ValueError(
        'client_test needs client_eval_every, the rounds between two '
        'evaluations of the clients, or a workdir, where the last model is '
        'evaluated.')
  if given.best_mode and not given.best_metric:
    raise ValueError('best_mode needs best_metric, which it is about.')
  if given.initial is not None and given.resume_from is not None:
    raise ValueError('initial and resume_from both say where to begin: give '
                     'one of them.')
  _check_places(given)
  for one in given.callbacks:
    if isinstance(one, types.FunctionType):
      _check_callback(one)
    if not callable(one) and not hasattr(one, 'log'):
      raise ValueError(
          'callbacks must be functions (state, record), or objects with a '
          f'method log(records), got {one!r}.')


def _check_places(given: Options) -> None:
  """ValueError if a folder is none."""
  if given.workdir is not None and not isinstance(given.workdir, str | Path):
    raise ValueError('workdir must be a path or None, got '
                     f'{checks.shown(given.workdir)}.')
  source = given.resume_from
  if source is not None and not isinstance(source, Result | str | Path):
    raise ValueError('resume_from must be a Result, the folder of a run or '
                     f'None, got {checks.shown(source)}.')


def _check_callback(function: types.FunctionType) -> None:
  """ValueError if it can't be called with a state and a record."""
  try:
    inspect.signature(function).bind(None, None)
  except TypeError:
    raise ValueError(
        'callbacks must be functions of two arguments, (state, record), got '
        f'{checks.shown(function)}, which takes '
        f'{inspect.signature(function)}.') from None
