"""What can be asynchronous, and what must be."""


import jax

from fedjax_sim.core import trees, warning
from fedjax_sim.core.types import FederatedAlgorithm, Model
from fedjax_sim.data.federated import FederatedData
from fedjax_sim.simulation import engine, in_time
from fedjax_sim.simulation.placement import device_memory
from fedjax_sim.systems.report_window import Asynchrony

# Below so many times the mean lag, a large part of reports is discarded.
_FEW_TIMES = 2


def check(
    algorithm: FederatedAlgorithm, systems: in_time.Systems | None,
    reports: int,
) -> None:
  """ValueError if an algorithm does not fit the way in which reports come.

  Warns if many reports will come too late.

  Args:
    algorithm: the algorithm.
    systems: what makes rounds take time; None for nothing.
    reports: K, those of a server step.
  """
  wanted = algorithm.asynchronous
  rule = systems and systems.reporting.asynchrony
  if wanted is not None and not rule:
    raise ValueError(
        f'algorithm {wanted.name} is asynchronous: it needs systems, such as '
        'lognormal(), and reporting=asynchronous(concurrency=...), got rounds.')
  if not rule:
    return
  if wanted and wanted.reports not in (None, reports):
    raise ValueError(
        f'clients_per_round must be {wanted.reports} for {wanted.name}, which '
        f'takes so many reports in a step, got {reports}.')
  if algorithm.phases:
    raise ValueError(
        'algorithm must exchange one message with each client to be '
        'asynchronous, since a second one has to wait for a whole cohort, got '
        f'one with {len(algorithm.phases) + 1}, such as mime.')
  if algorithm.edges is not None or algorithm.gossip is not None:
    raise ValueError(
        'algorithm must have one server to be asynchronous, got one with '
        f'{"edges" if algorithm.gossip is None else "a graph of clients"}.')
  _warn_of_lag(rule, reports)


def _warn_of_lag(rule: Asynchrony, reports: int) -> None:
  mean, max_lag = rule.mean_lag(reports), rule.settled(reports).max_lag
  if max_lag < _FEW_TIMES * mean:
    warning.warn(
        f'reporting: max_lag={max_lag} discards many reports: their mean lag '
        f'is about {mean:.3g}, (concurrency - 1) / clients_per_round, and that '
        'of slow clients much larger. Without max_lag it is '
        f'{rule._replace(max_lag=None).settled(reports).max_lag}.')


def check_memory(
    model: Model, algorithm: FederatedAlgorithm,
    systems: in_time.Systems | None, reports: int, train: FederatedData,
    runs: int = 1,
) -> None:
  """ValueError if a device can't hold the models that clients began with.

  Args:
    model: the model.
    algorithm: the algorithm.
    systems: what makes rounds take time; None for nothing.
    reports: K, those of a server step.
    train: the federation; only shapes matter.
    runs: how many a memory holds side by side.
  """
  versions = in_time.versions(systems, reports)
  have = device_memory.available(jax.local_devices()[0])
  if versions is None or have is None:
    return
  variables = jax.eval_shape(
      model.init, jax.random.key(0),
      jax.tree.map(lambda x: x[:1], train.examples['x']))
  first = engine.first_state(algorithm, train, variables, versions=1)
  each = sum(trees.num_bytes(one.versions) for one in first.aggregator)
  if runs * versions * each > have:
    runs = f' for each of {runs} runs' if runs > 1 else ''
    raise ValueError(
        f'reporting: max_lag = {versions - 1} must be small enough for the '
        f'memory: a ring of {versions} models of {each / 1e6:.3g} MB takes '
        f'{versions * each / 1e9:.1f} GB{runs}, there are {have / 1e9:.1f} GB.')
