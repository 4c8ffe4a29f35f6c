"""An algorithm of FedJAX's three client functions and a server's step.

    round t, on each client k of the cohort S_t:
      state <- client_init(shared_input(w_t, s_t), key)
      state <- client_step(state, batch), for each of its batches
      d_k = client_final(shared_input(w_t, s_t), state)
    server:
      d = (sum_k n_k d_k) / (sum_k n_k)
      w_{t+1}, s_{t+1} = server_update(w_t, s_t, d)

The frame of the algorithms in Ro, Suresh, Wu, "FedJAX: Federated learning
simulation with JAX" (2021), for one pass over the clients a round.
"""

from collections.abc import Callable

import jax
from jax import numpy as jnp

from fedjax_sim import aggregation
from fedjax_sim.clients.local_sgd import WEIGHTINGS
from fedjax_sim.core import checks, precision, random
from fedjax_sim.core.types import (
    Aggregator,
    ClientOutput,
    ClientUpdate,
    FederatedAlgorithm,
    Message,
    PyTree,
    ServerState,
)
from fedjax_sim.fedjax import client_steps
from fedjax_sim.fedjax.batch_counts import Repeat
from fedjax_sim.fedjax.full_batches import for_each_full_batch


def from_steps(
    client_init: client_steps.ClientInit,
    client_step: client_steps.ClientStep,
    client_final: client_steps.ClientFinal = lambda shared_input, state: state,
    with_step_result: bool = False,
    *,
    server_update: Callable[[PyTree, PyTree, PyTree], tuple[PyTree, PyTree]],
    server_init: Callable[[PyTree], PyTree] = lambda params: (),
    shared_input: Callable[[PyTree, PyTree], PyTree] = (
        lambda params, opt_state: params),
    batch_size: int,
    num_epochs: int | None = 1,
    num_steps: int | None = None,
    drop_remainder: bool = False,
    weighting: str = 'examples',
    aggregator: Aggregator | None = None,
) -> FederatedAlgorithm:
  """Builds the algorithm.

  Args:
    client_init: `(shared input, key) -> step state`. The key is the client's
      own in this round, a typed one (`jax.random.key`).
    client_step: `(step state, batch) -> step state`. A batch is the dict (or
      any PyTree) of the federation's examples, [batch_size, ...]; it is always
      full, see `clients.repeat`. With `with_step_result` it returns (step
      state, step result), a dict of scalars, whose means over all steps of the
      cohort are logged as `train/<name>`.
    client_final: `(shared input, step state) -> output`, a PyTree of numbers.
    with_step_result: see `client_step`.
    server_update: `(params, opt_state, mean output) -> (params, opt_state)`.
    server_init: `(params) -> opt_state`, whatever else the server keeps.
    shared_input: `(params, opt_state) -> shared input`, what clients are sent.
    batch_size: B.
    num_epochs: passes over a client's examples; ceil(n * num_epochs / B) steps.
    num_steps: steps of a client; with `num_epochs` at most so many.
    drop_remainder: whether floor takes the place of ceil.
    weighting: 'examples' (n_k) or 'uniform', of those that do any step.
    aggregator: None is `aggregation.aggregator()`, the weighted mean.

  Raises:
    ValueError: an argument is out of range; at the start of a simulation: the
      model has a state (BatchNorm), of which these functions know nothing.
  """
  repeat = Repeat(batch_size, num_epochs, num_steps, drop_remainder).check()
  checks.one_of('weighting', weighting, WEIGHTINGS)
  client = _client_update(
      client_init, client_steps.with_result(client_step, with_step_result),
      client_final, repeat, weighting)

  def init(variables, key, num_clients) -> ServerState:
    del key, num_clients
    if jax.tree.leaves(variables.model_state):
      raise ValueError(
          'from_steps takes a model without model_state, got one with '
          f'{jax.tree.structure(variables.model_state)}.')
    return ServerState(
        jnp.int32(0), variables, server_init(variables.params))

  def server(state: ServerState, aggregate, key) -> ServerState:
    del key
    params, opt_state = server_update(
        state.variables.params, state.opt_state, aggregate.mean)
    params = precision.narrow(params, state.variables.params)
    opt_state = precision.narrow(opt_state, state.opt_state)
    return state._replace(
        variables=state.variables._replace(params=params), opt_state=opt_state)

  return FederatedAlgorithm(
      init=init,
      client_init=lambda variables: (),
      broadcast=lambda state: shared_input(
          state.variables.params, state.opt_state),
      client=client,
      aggregator=aggregator or aggregation.aggregator(),
      server=server,
      personalize=lambda state, client_state, data, key: state.variables,
      local_steps=repeat.steps)


def _client_update(
    client_init, client_step, client_final, repeat, weighting
) -> ClientUpdate:

  def update(shared, client_state, data, key):
    state = client_init(shared, random.named(key, 'client input'))
    batch = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(
            (repeat.batch_size, *x.shape[1:]), x.dtype), data.examples)
    state = client_steps.widened(
        state, jax.eval_shape(client_step, state, batch)[0])
    _, result = jax.eval_shape(client_step, state, batch)
    _check_result(result)
    sums = jax.tree.map(lambda x: jnp.zeros((), jnp.float32), result)

    def step(carry, batch):
      (state, sums), count = carry
      state, result = client_step(state, batch.examples)
      return (state, jax.tree.map(jnp.add, sums, result)), count + 1

    (state, sums), count = for_each_full_batch(
        data, step, ((state, sums), jnp.float32(0)), key=key, repeat=repeat)
    # Means of whole numbers are none.
    output = jax.tree.map(_as_float, client_final(shared, state))
    message = Message(output, WEIGHTINGS[weighting](data), count > 0)
    metrics = {name: (total, count) for name, total in dict(sums).items()}
    return ClientOutput(message, client_state, metrics)

  return update


def _check_result(result) -> None:
  """ValueError unless a step's result is a dict of real scalars, or empty."""
  if isinstance(result, dict | tuple) and not result:
    return
  fits = isinstance(result, dict) and all(
      isinstance(name, str) and getattr(x, 'shape', None) == ()
      and not jnp.issubdtype(x.dtype, jnp.complexfloating)
      for name, x in result.items())
  if not fits:
    came = jax.tree.map(lambda x: f'{x.dtype}{list(x.shape)}', result)
    raise ValueError(
        'with_step_result, client_step must return (step state, step result), '
        'the result a dict of scalars, {name: float32[]}, whose means are '
        f'reported, got {came}. Take the mean over the batch.')


def _as_float(x) -> jax.Array:
  x = jnp.asarray(x)
  inexact = jnp.issubdtype(x.dtype, jnp.inexact)
  return x if inexact else x.astype(jnp.float32)
