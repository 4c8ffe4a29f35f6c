"""Centralized SGD: the baseline without federation.

One client holds everything. Its optimizer state and its place in the epoch's
random order live on from round to round, so that rounds are mere points at
which the model is looked at: R rounds of s steps are R * s steps of SGD.
"""

from typing import NamedTuple

import jax
import optax
from jax import numpy as jnp

from fedjax_sim import aggregation
from fedjax_sim.clients import batches
from fedjax_sim.clients.local_sgd import run_sgd
from fedjax_sim.clients.local_training import Schedule
from fedjax_sim.clients.work import local_work
from fedjax_sim.core import checks, frozen, optimizer_checks, precision
from fedjax_sim.core.types import (
    Aggregate,
    ClientOutput,
    FederatedAlgorithm,
    Message,
    Model,
    PyTree,
    ServerState,
)


class TrainerState(NamedTuple):
  """The one client's state: optimizer state, and int32 [] steps done."""

  opt_state: PyTree
  num_steps: jax.Array


def centralized_sgd(
    model: Model,
    client_optimizer: optax.GradientTransformation,
    *,
    batch_size: int | None = 100,
    steps_per_round: int | None = None,
    client_schedule: Schedule | None = None,
) -> FederatedAlgorithm:
  """Builds centralized SGD, to run on a federation of one client.

  Args:
    model: what is trained.
    client_optimizer: any optax optimizer; a schedule counts steps, not rounds.
    batch_size: examples a step; the last batch of an epoch may be partial.
    steps_per_round: steps between two looks at the model; None is an epoch.
    client_schedule: round (from 0) -> factor on its steps; None is 1.

  Raises:
    ValueError: an argument is out of range; when run, there are several
      clients.
  """
  optimizer_checks.check('client_optimizer', client_optimizer)
  if steps_per_round is not None:
    checks.positive_int('steps_per_round', steps_per_round)
  optimizer_checks.check_factors('client_schedule', client_schedule)
  work = local_work(steps=steps_per_round, batch_size=batch_size)

  def init(variables, key, num_clients):
    if num_clients != 1:
      raise ValueError(
          'centralized_sgd needs a federation of num_clients = 1 that holds '
          f'all examples (data.single), got {num_clients}.')
    # The epochs' orders come from one key for the whole run.
    return ServerState(jnp.int32(0), variables, opt_state=(), extra=key)

  def client(server, trainer, data, key):
    del key
    variables, order_key, round_number = server
    scale = 1.0 if client_schedule is None else client_schedule(round_number)
    in_epoch = batches.steps_per_epoch(data.size, batch_size)
    num_steps = in_epoch if steps_per_round is None else steps_per_round
    local = run_sgd(
        model, client_optimizer, variables, data, order_key,
        batch_size=batch_size, num_steps=num_steps,
        first_step=trainer.num_steps, step_scale=scale,
        opt_state=trainer.opt_state)
    # A weight of one makes the mean exact: nothing is rounded on the way.
    message = Message(
        frozen.without(local.variables), jnp.ones((), precision.scalar()))
    trainer = TrainerState(local.opt_state, trainer.num_steps + num_steps)
    return ClientOutput(message, trainer, local.metrics)

  def server(state: ServerState, aggregate: Aggregate, key):
    del key
    return state._replace(variables=precision.narrow(
        aggregate.mean, frozen.without(state.variables)))

  return FederatedAlgorithm(
      init=init,
      client_init=lambda variables: TrainerState(
          client_optimizer.init(precision.wide(variables.params)),
          jnp.int32(0)),
      broadcast=lambda state: (
          state.variables, state.extra, state.round),
      client=client,
      aggregator=aggregation.aggregator(),
      server=server,
      personalize=lambda state, client_state, data, key: state.variables,
      local_steps=lambda sizes: work.planned(sizes))  # Never cut short.
