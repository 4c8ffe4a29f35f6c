"""An experiment: from a config to a trained model and its record."""

import contextlib
import time
from pathlib import Path

import jax
import numpy as np
from ml_collections import ConfigDict

from fedjax_sim.core import compilation, cpu_devices, trees
from fedjax_sim.data import partition as partition_lib
from fedjax_sim.experiment import best as best_lib
from fedjax_sim.experiment import (
    callbacks,
    client_checkpoints,
    loop,
    metrics,
    notice,
    privacy_told,
    processes,
    reporting,
    results,
    spec_fields,
    topology_told,
    verify,
    workdir,
)
from fedjax_sim.experiment import session as session_lib
from fedjax_sim.experiment.best import Best
from fedjax_sim.experiment.build_run import (
    Experiment,
    Shape,
    build,
    resolved,
    shape_before,
)
from fedjax_sim.experiment.check_config import validate
from fedjax_sim.experiment.checkpoints import Checkpoints
from fedjax_sim.experiment.client_checkpoints import RunCheckpoints
from fedjax_sim.simulation import in_time
from fedjax_sim.simulation.placement import sharding
from fedjax_sim.simulation.plan import evaluate_after
from fedjax_sim.simulation.simulation import Simulation, first_inputs

EXIT_DONE, EXIT_DIVERGED, EXIT_STOPPED = 0, 2, 130


def run(
    config: ConfigDict,
    name: str,
    *,
    workdir_path: str | None = None,
    dry_run: bool = False,
) -> int:
  """Runs an experiment to its end, from where an earlier call left it.

  Args:
    config: like configs/default.py.
    name: of the config, for the default workdir runs/<name>-<hash>.
    workdir_path: another workdir.
    dry_run: build all and say what would be done; write nothing.

  Returns:
    The exit code: 0 done, 2 diverged, 130 stopped by a signal.

  Raises:
    ValueError: bad input, before any work.
  """
  validate(config)
  reporting.check_tensorboard(config.tensorboard)
  begun = time.perf_counter()
  compilation.keep_programs()
  # In a process where JAX runs already, what it runs on is what there is.
  with contextlib.suppress(ValueError):
    cpu_devices.use_all_cores()
  plain = workdir.as_json(spec_fields.canonical(config))
  folder = Path(
      workdir_path or Path('runs') / f'{name}-{workdir.short_hash(plain)}')
  if dry_run:
    with notice.Notice() as waiting:
      waiting.say('reading the data')
      experiment = build(config, Shape.of(config), waiting.say)
      if config.best_metric:
        _best_mode(config, experiment.simulation)
      waiting.say('compiling the rounds')
      _ = experiment.simulation.program.compiled
    state = experiment.simulation.init()
    reporting.print_fields(_header(config, experiment, folder, state)
                           | _cost(experiment.simulation, state))
    return EXIT_DONE
  if not processes.is_first():
    return _run_in(folder, config, plain, begun)
  made = workdir.prepare(folder)
  with loop.exclusive(folder), workdir.unmade_if_refused(made):
    return _run_in(folder, config, plain, begun)


def _run_in(
    folder: Path, config: ConfigDict, plain: workdir.Config, begun: float
) -> int:
  """`run`, in a folder that this process holds."""
  record = workdir.read_record(folder)
  shape = Shape.of(config)
  if record is not None:
    workdir.check_same(folder, record, plain)
    shape = shape_before(record, shape)
  # The first process may have written the record by now.
  shape = Shape(*sharding.from_first(list(shape)))
  with Checkpoints(folder / 'checkpoints', config.keep_checkpoints) as saved:
    done = saved.latest() or 0
    lacking = None
    results.check_rounds(folder, done, config.rounds)
    if done >= config.rounds and processes.is_first():
      lacking = _lacking(folder, done, config)
    lacking = sharding.from_first(lacking)
    if lacking is not None:
      print(f'{lacking} So the results are written again.', flush=True)
    elif done >= config.rounds:
      print(f'{folder} is finished, with {saved.latest()} rounds. More: '
            '--config.rounds=')
      _print_closing(folder, config)
      return EXIT_DONE
    with notice.Notice() as waiting:
      waiting.say('reading the data')
      experiment = build(config, shape, waiting.say)
      simulation = experiment.simulation
      if lacking is None:  # There are rounds to run.
        waiting.say('compiling the rounds')
        _ = simulation.program.compiled
    if processes.is_first():
      workdir.write_record(
          folder, plain, resolved(simulation), record)
    return _train(folder, config, experiment, saved, begun)


def _lacking(folder: Path, done: int, config: ConfigDict) -> str | None:
  """Why a folder with all rounds is not finished, None if it is."""
  try:
    verify.verify(folder)
  except ValueError as error:
    return str(error)
  return results.why_not(folder, done, config.targets)


def _train(
    folder: Path, config: ConfigDict, experiment: Experiment,
    saved: Checkpoints, begun: float,
) -> int:
  """Trains, evaluates the clients, writes what the folder should hold."""
  simulation = experiment.simulation
  initial = simulation.init(folder / client_checkpoints.FOLDER)
  reporting.print_fields(_header(config, experiment, folder, initial))
  checkpoints = RunCheckpoints(checkpoints=saved, folder=folder)
  session = _session(folder, config, experiment)
  state, earlier = session_lib.restore(session, initial, checkpoints)
  start = int(state.server.round)
  if start:
    print(f'resumed after round {start}')
  with (
      contextlib.closing(reporting.Progress(
          earlier, start, config.rounds, config.targets, begun)) as shown,
      loop.stop_requests() as signals,
  ):
    def show(step: session_lib.Step) -> None:
      shown.update(step.records)
      if step.diverged is not None:
        shown.diverged(step.diverged, config.on_divergence)

    ended = session_lib.follow(
        session_lib.steps(session, state, earlier, checkpoints,
                          stop=lambda: bool(signals)), show)
  if ended.diverged and config.on_divergence == 'stop':
    if processes.is_first():
      session_lib.draw_partition(session)
    latest = checkpoints.latest()
    good = ('there is no checkpoint before it' if latest is None else
            f'the last good checkpoint is {folder}/checkpoints/{latest}')
    print(f'diverged: {ended.diverged} Of this run, {good}.')
    return EXIT_DIVERGED
  session_lib.write_results(session, ended)
  if processes.is_first():
    _print_closing(folder, config)
  if ended.interrupted:
    print('stopped; the same command goes on from here')
    return EXIT_STOPPED
  return EXIT_DONE


def _session(
    folder: Path, config: ConfigDict, experiment: Experiment
) -> session_lib.Session:
  """What a config wants done."""
  best = None
  if config.best_metric:
    best = Best(
        metric=config.best_metric, path=folder / best_lib.FILE,
        field='config.best_metric',
        mode=_best_mode(config, experiment.simulation))
  return session_lib.Session(
      simulation=experiment.simulation, cadence=cadence(config), folder=folder,
      targets=config.targets, best=best, client_test=experiment.client_test,
      client_eval_every=config.client_eval_every,
      record_cohort=config.record_cohort, partition=experiment.partition,
      labels=experiment.labels, callbacks=[
          callbacks.tensorboard(folder / 'tensorboard')
      ] if config.tensorboard and processes.is_first() else [])


def _best_mode(config: ConfigDict, simulation: Simulation) -> str:
  """Of `best_metric`; ValueError if there is no such metric."""
  best_lib.check_metric(
      simulation, config.best_metric, 'config.best_metric')
  return best_lib.mode_of(simulation.model, config.best_metric,
                          config.best_mode, prefix='config.best_')


def cadence(config: ConfigDict) -> loop.Cadence:
  """How runs of a config proceed."""
  return loop.Cadence(
      rounds=config.rounds,
      evaluate=evaluate_after(config.eval_every, config.rounds),
      rounds_per_dispatch=config.rounds_per_dispatch or None,
      checkpoint_seconds=config.checkpoint_seconds,
      stop_on_divergence=config.on_divergence == 'stop')


def _header(
    config: ConfigDict, experiment: Experiment, folder: Path, state
) -> dict[str, str]:
  """What is about to be done, for people."""
  simulation = experiment.simulation
  variables = jax.eval_shape(simulation.algorithm.evaluated, state.server)
  device = jax.devices()[0]
  sizes = partition_lib.summary(experiment.partition, experiment.labels)
  sampler = '' if config.sampler == 'uniform' else f', sampler {config.sampler}'
  if not simulation.looks_ahead:
    sampler += ', a dispatch each'
  local = 'B = infinity' if config.full_batch else f'B = {config.batch_size}'
  return {
      'model': f'{config.model}, {trees.size(variables.params):,} parameters '
               f'({reporting.byte_text(trees.num_bytes(variables))})',
      'algorithm': f'{config.algorithm}, {_work(config)}, '
                   f'{local}, {config.client_optimizer} at '
                   f'{config.client_lr:g}, server {config.server_optimizer} at '
                   f'{config.server_lr:g}',
      **topology_told.header(
          simulation.algorithm, simulation.train.num_clients),
      **_messages(config),
      **_time(config),
      **privacy_told.header(privacy_told.of(simulation, config.rounds)),
      'data': f'{config.dataset}, {config.partition}: {sizes}',
      'cohort': f'{_cohort(simulation)}{sampler}, {config.rounds} rounds',
      **_client_state(simulation),
      'device': f'{device.device_kind} ({device.platform}), '
                f'devices {simulation.placement.size}, lanes '
                f'{simulation.lanes} ({simulation.lanes_reason})',
      **_of_accelerator(simulation),
      'workdir': str(folder),
  }


def _cohort(simulation: Simulation) -> str:
  """Who takes part in a round, or in a step of an asynchronous server."""
  most, count = simulation.sampler.max_cohort, simulation.train.num_clients
  known = simulation.timeline
  rule = known and known.reporting.asynchrony
  scheme = simulation.sampler.scheme
  if scheme is not None and scheme.name == 'poisson':
    return (f'{scheme.cohort_size} of {count} clients a round on average, at '
            f'most {most}')
  if not rule:
    return f'{most} of {count} clients a round'
  reports = 'every report' if most == 1 else f'{most} reports'
  return (f'{rule.concurrency} of {count} clients at work, a server step with '
          f'{reports}, max_lag {rule.max_lag}')


def _messages(config: ConfigDict) -> dict[str, str]:
  """What happens to messages on their way, if anything."""
  fields = ('restrict', 'uplink', 'downlink', 'reduce', 'aggregate')
  said = [f'{name} {config[name]}' for name in fields if config[name]]
  return {'messages': ', '.join(said)} if said else {}


def _time(config: ConfigDict) -> dict[str, str]:
  """Whose devices clients are, and when a round ends, if that is said."""
  said = [config[name] for name in ('systems', 'reporting') if config[name]]
  return {'time': ', '.join(said)} if said else {}


def _of_accelerator(simulation: Simulation) -> dict[str, str]:
  """How a device multiplies, and what it runs by itself; a CPU has one way."""
  placement, graphs = simulation.placement, simulation.program.graphs
  fields = {}
  if placement.platform != 'cpu':
    fields['products'] = placement.precision
  if graphs is not None:
    fields['CUDA graphs'] = graphs
  return fields


def _client_state(simulation: Simulation) -> dict[str, str]:
  """What clients keep, if anything, and where it is."""
  states = jax.tree.leaves(simulation.engine.states)
  if not states:
    return {}
  each = trees.num_bytes(states) / len(states[0])
  where = 'on the devices' if simulation.state_buffer is None else 'on disk'
  total = reporting.byte_text(each * simulation.train.num_clients)
  return {'client state': f'{reporting.byte_text(each)} a client, {total} '
                          f'in all, {where}'}


def _work(config: ConfigDict) -> str:
  """How much a client does."""
  text = f'E = {config.local_epochs:g}'
  if config.local_steps:
    text = f'{config.local_steps} steps'
  return text


def _cost(simulation: Simulation, state) -> dict[str, str]:
  """What the compiled rounds will take, for --dry_run."""
  memory = simulation.program.compiled.memory_analysis()
  fields = {}
  if memory is not None:
    fields['memory'] = (
        f'{reporting.byte_text(memory.argument_size_in_bytes)} of data, model '
        f'and client state, {reporting.byte_text(memory.temp_size_in_bytes)} '
        'while a round runs')
  flops = simulation.training_flops(
      simulation.algorithm.evaluated(state.server))
  examples = simulation.sampler.max_cohort * np.mean(simulation.train.sizes)
  fields['cost'] = (
      f'{flops / 1e6:.3g} MFLOP an example and local epoch, '
      f'{flops * examples / 1e9:.3g} GFLOP a round and local epoch')
  return fields | {'traffic': _traffic(simulation)}


def _traffic(simulation: Simulation) -> str:
  """What a client receives and sends in a round, as far as it is known."""
  # As one model has them: an algorithm may keep several.
  variables = jax.eval_shape(
      simulation.model.init, jax.random.key(0), first_inputs(simulation.train))
  nominal = in_time.nominal_bits(
      simulation.algorithm, simulation.train.examples, variables,
      simulation.train.num_clients)
  if simulation.algorithm.gossip is not None:
    return (f'in a round a client receives and sends at most '
            f'{reporting.byte_text(nominal[0] / 8)}')
  down, up = (
      reporting.byte_text(bits / 8) + (
          ' before a compression that varies' if known < bits / 8 else '')
      for known, bits in zip(
          simulation.bytes_per_client()[:2], nominal, strict=True))
  return f'in a round a client receives {down} and sends {up}'


def _print_closing(folder: Path, config: ConfigDict) -> None:
  stated = results.directions(folder)
  fields = reporting.closing_fields(
      metrics.read(folder / loop.METRICS_FILE), config.targets, stated,
      workdir.read_json(folder / workdir.RESULTS_FILE)['round'])
  fields |= privacy_told.closing(folder)
  clients = workdir.read_json(folder / results.CLIENTS_FILE)
  if clients:
    fields |= reporting.clients_field(clients, stated)
  print()
  reporting.print_fields(fields)
