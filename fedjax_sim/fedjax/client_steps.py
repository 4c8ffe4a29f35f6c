"""A client's work as FedJAX writes it: an init, a step for each batch, a final.

  client_init(shared_input, client_input) -> step state
  client_step(step state, batch) -> step state, or (step state, step result)
  client_final(shared_input, step state) -> output
"""

from collections.abc import Callable

import jax
from jax import numpy as jnp

from fedjax_sim.core.types import PyTree

ClientInit = Callable[[PyTree, PyTree], PyTree]
ClientStep = Callable[[PyTree, PyTree], PyTree]
ClientFinal = Callable[[PyTree, PyTree], PyTree]


def with_result(client_step: ClientStep, has_result: bool) -> ClientStep:
  """The step as one that returns (step state, step result)."""
  if has_result:
    return client_step
  return lambda state, batch: (client_step(state, batch), ())


def widened(state: PyTree, after: PyTree) -> PyTree:
  """The first step state, in the dtypes that a step returns.

  A `client_init` may begin a sum of floats with a plain 0. A loop can't, so
  leaves take the dtype of `after` where that holds all of their values.

  Args:
    state: from `client_init`.
    after: what a step returns for it, or its shapes.
  """
  def widen(x, y):
    wider = x.dtype != y.dtype and jnp.promote_types(x, y) == y.dtype
    return x.astype(y.dtype) if wider else x
  if jax.tree.structure(state) != jax.tree.structure(after):
    raise ValueError(
        'client_step must return a state of the structure that it takes: it '
        f'takes {jax.tree.structure(state)}, and returns '
        f'{jax.tree.structure(after)}.')
  return jax.tree.map(widen, jax.tree.map(jnp.asarray, state), after)
