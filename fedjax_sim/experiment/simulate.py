"""`simulate` and `rounds`: federated learning from Python."""

import contextlib
import signal
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from fedjax_sim.core import argument_kinds, warning
from fedjax_sim.core.types import FederatedAlgorithm, Model, PyTree, Variables
from fedjax_sim.data import sampling
from fedjax_sim.data.federated import FederatedData
from fedjax_sim.experiment import client_history, closing_time, loop, notice
from fedjax_sim.experiment import session as session_lib
from fedjax_sim.experiment.prepare import Options, Prepared, prepare
from fedjax_sim.experiment.reporting import Progress, has_bar
from fedjax_sim.experiment.result import Loaded, Result
from fedjax_sim.experiment.session import Callback
from fedjax_sim.simulation.records import Record
from fedjax_sim.simulation.rounds import SimulationState
from fedjax_sim.systems import Population, Reporting


@argument_kinds.checked
def simulate(
    model: Model,
    algorithm: FederatedAlgorithm,
    train: FederatedData,
    *,
    rounds: int,
    clients_per_round: int | None = None,
    client_fraction: float | None = None,
    sampler: sampling.Sampler | Callable[[int], np.ndarray] | str = 'uniform',
    test: PyTree | None = None,
    more_sets: Mapping[str, PyTree] | None = None,
    eval_every: int = 1,
    eval_batch_size: int = 1000,
    client_test: FederatedData | None = None,
    client_eval_every: int = 0,
    record_cohort: bool = False,
    best_metric: str | None = None,
    best_mode: str | None = None,
    callbacks: Sequence[Callback] = (),
    initial: Result | Loaded | Variables | PyTree | str | Path | None = None,
    resume_from: Result | str | Path | None = None,
    workdir: str | Path | None = None,
    checkpoint_seconds: float = 30.0,
    keep_checkpoints: int = 3,
    targets: Sequence[float] = (),
    on_divergence: str = 'stop',
    progress: bool | None = None,
    seed: int = 0,
    devices: int | str = 'auto',
    lanes: int | str = 'auto',
    examples: str = 'auto',
    client_state: str = 'auto',
    systems: Population | None = None,
    reporting: Reporting | None = None,
    precision: str = 'auto',
    rounds_per_dispatch: int | None = None,
) -> Result:
  """Trains a federation for a number of rounds.

  Ctrl-C ends the run after the rounds at hand, and what is done is returned; a
  second one interrupts at once. docs/python.md shows all of this.

  Args:
    model: the model.
    algorithm: built around the same model.
    train: the federation, N clients.
    rounds: how many in all, with those of an earlier part of the run.
    clients_per_round: the cohort's size M, drawn without replacement; this or
      `client_fraction`, unless `sampler` is a Sampler.
    client_fraction: C in [0, 1]; 0 is one client a round.
    sampler: who takes part: 'uniform'; 'by_size', in proportion to the clients'
      numbers of examples; 'poisson', each with the same chance; a function
      from a round's number, from 0, to at most M of the clients' numbers; or a
      `data.sampling.Sampler`.
    test: PyTree [E, ...] of test examples, None for no evaluation.
    more_sets: further sets to evaluate on, name -> PyTree [E, ...]; of a set
      'backdoor' records have 'backdoor/loss', and so on.
    eval_every: evaluate after every so many rounds, and after the last.
    eval_batch_size: examples at once in an evaluation.
    client_test: test examples of the same N clients, one by one. They need
      `client_eval_every` or a workdir, with which the clients are evaluated
      on these at the end.
    client_eval_every: evaluate the clients on these after every so many rounds,
      and after the last; 0 is not at all. `Result.clients` has the table.
    record_cohort: whether each record names the round's clients, as `cohort`.
    best_metric: keeps the best model by this metric, such as 'test/accuracy';
      `Result.best` has it, and with a workdir the folder.
    best_mode: 'max' or 'min'; None asks the model about its metric.
    callbacks: see `fedjax_sim.callbacks`.
    initial: weights to begin with: the model's Variables or their params;
      the variables of a flax linen module, by collection, or a flax nnx
      module; the Result of another run, what `load` has read, or a run's
      folder. None draws them from the seed.
    resume_from: a Result, or the folder of a run, to go on from its last round,
      with the server's, the optimizer's and the clients' states; `rounds`
      counts those that it has done.
    workdir: a folder that holds all that a run of `run.py` leaves: metrics,
      checkpoints, plots, final parameters. The same call goes on there from the
      last checkpoint, to the same bits; another one is refused.
    checkpoint_seconds: seconds between two checkpoints.
    keep_checkpoints: how many are kept.
    targets: test accuracies that are announced, and marked in the plot;
      `Result.rounds_to` has the rounds to any.
    on_divergence: 'stop' raises an error at a NaN or infinity, 'continue' goes
      on and notes it in the result.
    progress: whether to show a bar; None is on a terminal only.
    seed: of initial weights, cohorts, orders, dropout.
    devices: how many of `jax.devices()` share a round's clients. 'auto' is all
      for a short job and on accelerators; for a long one (about ten minutes) on
      a CPU it is measured whether all or one are faster here, which takes a
      minute or two the first time.
      Doesn't change the result, up to the order of summation. `use_all_cores`
      makes a device of each core.
    lanes: clients computed side by side on a device; likewise, and on
      accelerators as many as the memory holds. 'measure' measures in any case.
    examples: where the training examples lie. 'auto': all of them on every
      device, or of a mapped federation those of the next rounds' cohorts.
      'owned': each device (with devices = 'auto' all there are) holds, and
      each process reads, those of a part of the clients, and computes these;
      in a round one device may then have more to do than another, which
      `imbalance` tells.
    client_state: where the states of clients lie that keep any: 'device' for
      all of them on the devices, each on its owner; 'stored' for a file on the
      disk, and on the devices those of the next rounds' cohorts, to the same
      results; 'auto' stores what would take more than a quarter of the memory.
    systems: whose devices the clients are, so that rounds take simulated time:
      `systems.lognormal(...)` and others; see docs/systems.md. None takes no
      time.
    reporting: when a round ends, `systems.window(...)`, or that there are none,
      `systems.asynchronous(...)`; None waits for all clients.
    precision: how exactly products are computed, of training and evaluation:
      'highest' (float32), 'tensorfloat32' or 'bfloat16', with weights and sums
      of float32. 'auto' is 'highest' on a CPU, which has nothing else,
      'tensorfloat32' on a GPU and 'bfloat16' on a TPU, unless
      `jax_default_matmul_precision` is set; docs/speed.md.
    rounds_per_dispatch: rounds in one call of the device; None is about a
      second's worth.

  Raises:
    ValueError: an argument is out of range, the data don't fit the model, or
      the folder holds another run.
    DivergenceError: the loss became NaN or infinite.
  """
  given = dict(locals())
  with contextlib.ExitStack() as stack:
    with notice.Notice(silent=not has_bar(progress)) as waiting:
      waiting.say('preparing')
      prepared = prepare(_options(given), stack, waiting.say)
      if prepared.start < rounds:
        waiting.say('compiling the rounds')
        _ = prepared.session.simulation.program.compiled
    shown = stack.enter_context(contextlib.closing(Progress(
        prepared.earlier, prepared.start, rounds, targets, bar=progress,
        lines=False)))
    signals = stack.enter_context(loop.stop_requests((signal.SIGINT,)))
    records = list(prepared.earlier)

    def take(step: session_lib.Step) -> None:
      shown.update(step.records)
      records.extend(step.records)
      if step.diverged is not None:
        shown.diverged(step.diverged, on_divergence)

    ended = session_lib.follow(prepared.steps(lambda: bool(signals)), take)
    if ended.diverged is not None and on_divergence == 'stop':
      ended.diverged.records = records
      raise ended.diverged
    session_lib.write_results(prepared.session, ended)
    if old := closing_time.too_old(records):
      warning.warn(old)
    return _result(prepared, ended, records)


def rounds(
    model: Model,
    algorithm: FederatedAlgorithm,
    train: FederatedData,
    *,
    rounds: int | None = None,
    **options,
) -> Iterator[tuple[SimulationState, Record]]:
  """`simulate` for those who own the loop: round after round.

  Leaving the loop ends the run; with a workdir, what is done is kept there.
  Each round is a call of the devices of its own, so short rounds are slower
  than in `simulate`.

  Args:
    model: as in `simulate`, like the next ones.
    algorithm: the algorithm.
    train: the federation.
    rounds: how many in all; None goes on until the loop is left.
    **options: the other arguments of `simulate`, but for `progress` and
      `rounds_per_dispatch`.

  Returns:
    An iterator of (`SimulationState`, record), the state being the caller's to
    keep. With an evaluation set the first is of round 0, the model before
    training.

  Raises:
    ValueError: as in `simulate`, when it is called.
    DivergenceError: as in `simulate`, in the loop.
  """
  given = {'model': model, 'algorithm': algorithm, 'train': train,
           'rounds': rounds, **options}
  with contextlib.ExitStack() as held:
    prepared = prepare(_options(given, every_round=True), held)
    stack = held.pop_all()
  return _each_round(prepared, stack)


def _each_round(
    prepared: Prepared, stack: contextlib.ExitStack
) -> Generator[tuple[SimulationState, Record], None, None]:
  """The loop of `rounds`; `stack` holds the folder."""
  session, last = prepared.session, prepared.state
  with stack:
    bad = None
    try:
      with contextlib.closing(prepared.steps(lambda: False)) as steps:
        for step in steps:
          last = step.state
          if step.diverged and session.cadence.stop_on_divergence:
            bad = step.diverged
            raise bad
          for record in step.records:
            yield session_lib.copied(session.simulation, last), record
    finally:
      if bad is None:
        session_lib.write_results(
            session, session_lib.Ended(last, None, False, False, []))


def _options(given: Mapping, every_round: bool = False) -> Options:
  """All arguments by name; those that only the caller needs are left out."""
  known = {name: value for name, value in given.items()
           if name in Options._fields}
  unknown = given.keys() - set(Options._fields) - {'progress'}
  if unknown or every_round and 'progress' in given:
    raise TypeError('rounds() got an unexpected keyword argument '
                    f'{sorted(unknown or {"progress"})[0]!r}')
  return Options(**known, every_round=every_round)


def _result(
    prepared: Prepared, ended: session_lib.Ended, records: list[Record]
) -> Result:
  session, simulation = prepared.session, prepared.session.simulation
  clients = None
  if session.folder is not None and session.client_eval_every:
    file = session.folder / client_history.FILE
    clients = client_history.read(file) if file.exists() else None
  elif ended.clients:
    clients = client_history.joined(simulation.train.client_ids, ended.clients)
  return Result(
      simulation.state_of(ended.state, 0), records, simulation.model,
      simulation.algorithm, session.best, clients, ended.diverged,
      ended.interrupted and not ended.stopped, ended.stopped)
