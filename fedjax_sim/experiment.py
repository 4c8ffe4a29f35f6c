"""An experiment: from a config to a trained model and its record.

The only module that reads a config.
"""

import contextlib
import time
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
import optax
from ml_collections import ConfigDict

from fedjax_sim import (
    algorithms,
    compilation,
    devices,
    evaluation,
    metrics,
    models,
    plots,
    processes,
    reporting,
    simulator,
    training,
    workdir,
)
from fedjax_sim.algorithms import optimizers
from fedjax_sim.checkpoint import Checkpoints, save_npz
from fedjax_sim.core import checks, trees
from fedjax_sim.core.types import FederatedAlgorithm, Model
from fedjax_sim.data import partition as partition_lib
from fedjax_sim.data import sampling, sources
from fedjax_sim.data.federated import FederatedData, federate
from fedjax_sim.simulation import sharding
from fedjax_sim.simulation.plan import evaluate_after

EXIT_DONE, EXIT_DIVERGED, EXIT_STOPPED = 0, 2, 130

_PARTITIONS = {
    'iid': lambda c, y: partition_lib.iid(
        len(y), c.num_clients, seed=c.seed),
    'shards': lambda c, y: partition_lib.shards(
        y, c.num_clients, c.shards_per_client, seed=c.seed),
    'dirichlet': lambda c, y: partition_lib.dirichlet(
        y, c.num_clients, c.dirichlet_alpha, seed=c.seed,
        min_size=c.min_client_size),
    'quantity': lambda c, y: partition_lib.quantity(
        len(y), c.num_clients, seed=c.seed, sigma=c.quantity_sigma,
        min_size=c.min_client_size),
}
_NATURAL = 'natural'
_ALGORITHMS = ('fedavg', 'fedsgd', 'centralized_sgd')


def validate(config: ConfigDict) -> None:
  """ValueError if a field is out of range; reads no data."""
  checks.one_of('dataset', config.dataset, sources.NAMES)
  if config.data_dir and not Path(config.data_dir).is_dir():
    raise ValueError(
        f'data_dir must be a folder, there is none at {config.data_dir!r}.')
  checks.one_of('partition', config.partition, (*_PARTITIONS, _NATURAL))
  checks.one_of('model', config.model, models.MODELS)
  checks.one_of('loss', config.loss, models.LOSSES)
  checks.one_of('algorithm', config.algorithm, _ALGORITHMS)
  checks.one_of('examples', config.examples, simulator.EXAMPLES)
  checks.one_of('on_divergence', config.on_divergence, ('stop', 'continue'))
  natural = config.partition == _NATURAL
  if natural and config.dataset not in sources.NATURAL_NAMES:
    raise ValueError(
        "partition 'natural' needs a dataset that comes with clients, one of "
        f'{", ".join(sources.NATURAL_NAMES)}, got {config.dataset!r}.')
  checks.at_least('num_clients', config.num_clients, 0 if natural else 1)
  for name in ('shards_per_client', 'min_client_size', 'rounds',
               'local_epochs', 'batch_size', 'eval_every', 'eval_batch_size',
               'micro_batch_size', 'keep_checkpoints'):
    checks.positive_int(name, config[name])
  for name in ('devices', 'lanes'):
    checks.positive_int_or_auto(name, config[name])
  for name in ('clients_per_round', 'steps_per_round', 'rounds_per_dispatch',
               'seed'):
    checks.at_least(name, config[name], 0)
  for name in ('client_lr', 'client_lr_decay', 'server_lr', 'server_lr_decay',
               'dirichlet_alpha', 'quantity_sigma'):
    checks.positive(name, config[name])
  for name in ('client_momentum', 'server_momentum', 'client_weight_decay',
               'client_clip_norm', 'checkpoint_seconds'):
    checks.non_negative(name, config[name])
  checks.fraction('client_test_fraction', config.client_test_fraction)
  for target in config.targets:
    checks.fraction('targets', target)
  checks.fraction('client_fraction', config.client_fraction)
  if config.num_clients:
    cohort_size(config, config.num_clients)


def cohort_size(config: ConfigDict, num_clients: int) -> int:
  """M, from clients_per_round if it is set, else from client_fraction."""
  if config.clients_per_round:
    return sampling.cohort_size(
        num_clients, clients_per_round=config.clients_per_round)
  return sampling.cohort_size(
      num_clients, client_fraction=config.client_fraction)


def _clients(
    config: ConfigDict, dataset: sources.Dataset
) -> sources.NaturalClients:
  """Who holds which examples, by nature or as the config says."""
  if config.partition != _NATURAL:
    partition = _PARTITIONS[config.partition](config, dataset.train['y'])
    names = [str(i) for i in range(len(partition))]
    return sources.NaturalClients(names, partition)
  num_clients = len(dataset.natural.partition)
  if config.num_clients not in (0, num_clients):
    raise ValueError(
        f'num_clients must be 0 or {num_clients}, the clients that '
        f'{config.dataset} comes with, got {config.num_clients}.')
  return dataset.natural


def make_algorithm(config: ConfigDict, model: Model) -> FederatedAlgorithm:
  """The algorithm with its optimizers."""
  plain_sgd = config.client_optimizer == 'sgd' and not (
      config.client_momentum or config.client_clip_norm
      or config.client_weight_decay)
  client = optimizers.by_name('client', config.client_optimizer,
                              config.client_lr, config.client_momentum)
  before = []
  if config.client_clip_norm:
    before.append(optax.clip_by_global_norm(config.client_clip_norm))
  if config.client_weight_decay:
    before.append(optax.add_decayed_weights(config.client_weight_decay))
  client = optax.chain(*before, client) if before else client
  batch_size = None if config.full_batch else config.batch_size
  decay = config.client_lr_decay
  client_schedule = None if decay == 1 else lambda r: decay ** r
  if config.algorithm == 'centralized_sgd':
    return algorithms.centralized_sgd(
        model, client, batch_size=batch_size,
        steps_per_round=config.steps_per_round or None,
        client_schedule=client_schedule)
  rate = config.server_lr
  if config.server_lr_decay != 1:
    rate = optax.exponential_decay(rate, 1, config.server_lr_decay)
  server = optimizers.by_name(
      'server', config.server_optimizer, rate, config.server_momentum)
  shared = {
      'weighting': config.weighting,
      'client_schedule': client_schedule,
      'micro_batch_size': config.micro_batch_size,
  }
  if config.algorithm == 'fedsgd':
    return algorithms.fedsgd(
        model, config.client_lr if plain_sgd else client, server, **shared)
  return algorithms.fedavg(
      model, client, server, epochs=config.local_epochs, batch_size=batch_size,
      **shared)


class Experiment(NamedTuple):
  """What a config stands for.

  Attributes:
    simulation: ready to run.
    partition: indices of each client's training examples.
    labels: int32 [E], of the whole training set; None for sequences.
    client_test: the clients' held-out examples, or None.
  """

  simulation: simulator.Simulation
  partition: partition_lib.Partition
  labels: np.ndarray | None
  client_test: FederatedData | None


class Shape(NamedTuple):
  """How a round lies on the hardware: devices D, lanes W; numbers or 'auto'."""

  devices: int | str
  lanes: int | str


def build(config: ConfigDict, shape: Shape) -> Experiment:
  """Loads data and puts everything together.

  Raises:
    ValueError: a field is out of range, or the data can't be had.
  """
  validate(config)
  dataset = sources.load(config.dataset, config.data_dir or None)
  labels = dataset.train['y']
  client_ids, partition = _clients(config, dataset)
  client_test = None
  if config.client_test_fraction:
    partition, held_out = partition_lib.split(
        partition, config.client_test_fraction, seed=config.seed)
    client_test = federate(
        dataset.train, held_out, client_ids, allow_empty=True)
  model = models.build(config.model, dataset.num_classes, config.loss)
  num_clients = len(partition)
  sampler = sampling.uniform(
      num_clients, cohort_size(config, num_clients), config.seed)
  simulation = simulator.build(
      model, make_algorithm(config, model),
      federate(dataset.train, partition, client_ids), sampler,
      test=dataset.test, seed=config.seed, **shape._asdict(),
      eval_batch_size=config.eval_batch_size, examples=config.examples)
  return Experiment(
      simulation, partition, labels if labels.ndim == 1 else None, client_test)


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
  begun = time.perf_counter()
  compilation.keep_programs()
  # In a process where JAX runs already, what it runs on is what there is.
  with contextlib.suppress(ValueError):
    devices.use_all_cores()
  plain = workdir.as_json(config.to_dict())
  folder = Path(
      workdir_path or Path('runs') / f'{name}-{workdir.short_hash(plain)}')
  if dry_run:
    experiment = build(config, Shape(config.devices, config.lanes))
    state = experiment.simulation.init()
    program = experiment.simulation.compile(state)
    reporting.print_fields(_header(config, experiment, folder, state)
                           | _cost(experiment.simulation, state, program))
    return EXIT_DONE
  if not processes.is_first():
    return _run_in(folder, config, plain, begun)
  workdir.prepare(folder)
  with training.exclusive(folder):
    return _run_in(folder, config, plain, begun)


def _run_in(
    folder: Path, config: ConfigDict, plain: workdir.Config, begun: float
) -> int:
  """`run`, in a folder that this process holds."""
  record = workdir.read_record(folder)
  shape = Shape(config.devices, config.lanes)
  if record is not None:
    workdir.check_same(folder, record, plain)
    shape = _shape_before(record, shape)
  shape = _of_first(shape)
  with Checkpoints(folder / 'checkpoints', config.keep_checkpoints) as saved:
    if (saved.latest() or 0) >= config.rounds:
      print(f'{folder} is finished, with {saved.latest()} rounds. More: '
            '--config.rounds=')
      _print_closing(folder, config)
      return EXIT_DONE
    if 'auto' in shape:
      print('devices and lanes: measuring what is fastest, unless it is known',
            flush=True)
    experiment = build(config, shape)
    simulation = experiment.simulation
    if processes.is_first():
      workdir.write_record(
          folder, plain, Shape(simulation.placement.size,
                               simulation.lanes)._asdict(), record)
    return _train(folder, config, experiment, saved, begun)


def _of_first(shape: Shape) -> Shape:
  """The first process's, which may have written the record by now."""
  numbers = [-1, -1]
  if processes.is_first():
    numbers = [0 if n == 'auto' else n for n in shape]
  return Shape(*(int(n) or 'auto' for n in sharding.agree(*numbers)))


def _shape_before(record, wanted: Shape) -> Shape:
  """What 'auto' became in an earlier part of the run, where that is possible.

  Bits depend on it: another shape sums in another order.
  """
  before = record['resolved']
  same = all(record['config'].get(name, value) == value
             for name, value in wanted._asdict().items())
  present = len(jax.devices())
  possible = before.get('devices', 1) <= present
  if jax.process_count() > 1:  # Every process takes part.
    possible = before.get('devices', 1) == present
  if same and possible:
    return Shape(before.get('devices', 1), before['lanes'])
  return wanted


def _train(
    folder: Path, config: ConfigDict, experiment: Experiment,
    checkpoints: Checkpoints, begun: float,
) -> int:
  """Trains, evaluates the clients, writes what the folder should hold."""
  simulation = experiment.simulation
  initial = simulation.init()
  reporting.print_fields(_header(config, experiment, folder, initial))
  if processes.is_first():
    plots.partition_figure(
        experiment.partition, experiment.labels, folder / 'partition.png')
  state = training.restore(checkpoints, folder, initial)
  if int(state.server.round):
    print(f'resumed after round {int(state.server.round)}')
  program = simulation.compile(state)
  try:
    events = config.tensorboard and processes.is_first()
    with reporting.event_writer(folder, events) as write_events:
      outcome = training.train(
          simulation, program, state, _cadence(config), folder=folder,
          checkpoints=checkpoints, begun=begun, on_rows=write_events,
          bytes_per_client=trees.num_bytes(initial.server.variables))
  except simulator.DivergenceError as error:
    latest = checkpoints.latest()
    good = ('there is no checkpoint before it' if latest is None else
            f'the last good checkpoint is {folder}/checkpoints/{latest}')
    print(f'diverged: {error} Of this run, {good}.')
    return EXIT_DIVERGED
  state = sharding.gather(outcome.state)
  if processes.is_first():
    _write_results(folder, config, experiment, state)
    _print_closing(folder, config)
  if outcome.interrupted:
    print('stopped; the same command goes on from here')
    return EXIT_STOPPED
  return EXIT_DONE


def _cadence(config: ConfigDict) -> training.Cadence:
  return training.Cadence(
      rounds=config.rounds,
      evaluate=evaluate_after(config.eval_every, config.rounds),
      rounds_per_dispatch=config.rounds_per_dispatch or None,
      checkpoint_seconds=config.checkpoint_seconds,
      stop_on_divergence=config.on_divergence == 'stop',
      targets=config.targets)


def _header(
    config: ConfigDict, experiment: Experiment, folder: Path, state
) -> dict[str, str]:
  """What is about to be done, for people."""
  simulation = experiment.simulation
  variables = state.server.variables
  device = jax.devices()[0]
  sizes = partition_lib.summary(experiment.partition, experiment.labels)
  local = 'B = infinity' if config.full_batch else f'B = {config.batch_size}'
  return {
      'model': f'{config.model}, {trees.size(variables.params):,} parameters '
               f'({reporting.byte_text(trees.num_bytes(variables))})',
      'algorithm': f'{config.algorithm}, E = {config.local_epochs}, {local}, '
                   f'{config.client_optimizer} at {config.client_lr:g}, server '
                   f'{config.server_optimizer} at {config.server_lr:g}',
      'data': f'{config.dataset}, {config.partition}: {sizes}',
      'cohort': f'{simulation.sampler.max_cohort} of '
                f'{simulation.train.num_clients} clients a round, '
                f'{config.rounds} rounds',
      'device': f'{device.device_kind} ({device.platform}), '
                f'devices {simulation.placement.size}, lanes '
                f'{simulation.lanes} ({simulation.lanes_reason})',
      'workdir': str(folder),
  }


def _cost(simulation: simulator.Simulation, state, program) -> dict[str, str]:
  """What the compiled rounds will take, for --dry_run."""
  memory = program.memory_analysis()
  fields = {}
  if memory is not None:
    fields['memory'] = (
        f'{reporting.byte_text(memory.argument_size_in_bytes)} of data, model '
        f'and client state, {reporting.byte_text(memory.temp_size_in_bytes)} '
        'while a round runs')
  flops = simulation.training_flops(state.server.variables)
  examples = simulation.sampler.max_cohort * np.mean(simulation.train.sizes)
  fields['cost'] = (
      f'{flops / 1e6:.3g} MFLOP an example and local epoch, '
      f'{flops * examples / 1e9:.3g} GFLOP a round and local epoch')
  return fields


def _write_results(folder, config, experiment: Experiment, state) -> None:
  """The final parameters, the curve, and the clients' own metrics."""
  simulation = experiment.simulation
  save_npz(folder / 'final_params.npz', state.server.variables._asdict())
  rows = metrics.read(folder / training.METRICS_FILE)
  if any('test/accuracy' in row for row in rows):
    plots.curves(rows, folder / 'accuracy.png', targets=config.targets,
                 title=folder.name)
  if experiment.client_test is not None:
    summary = evaluation.evaluate_clients(
        simulation.model, simulation.algorithm, state, simulation.train,
        experiment.client_test, key=jax.random.key(config.seed),
        lanes=simulation.lanes).summary()
    workdir.write_json(folder / 'clients.json', {
        k: v if np.isfinite(v) else None for k, v in summary.items()})


def _print_closing(folder: Path, config: ConfigDict) -> None:
  rows = metrics.read(folder / training.METRICS_FILE)
  fields = reporting.closing_fields(rows, config.targets)
  clients = workdir.read_json(folder / 'clients.json')
  if clients is not None:
    fields['clients\' own test accuracy'] = ', '.join(
        f'{name} {clients[f"accuracy/{name}"]:.4f}'
        for name in ('mean', 'p10', 'p50', 'p90', 'worst'))
  print()
  reporting.print_fields(fields)
