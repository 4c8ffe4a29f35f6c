"""A model of its own for each client, which begins with its first round."""

from typing import NamedTuple

import jax
from jax import numpy as jnp

from fedjax_sim.core import trees
from fedjax_sim.core.types import Variables


class Own(NamedTuple):
  """A client's state.

  Attributes:
    variables: its own model.
    started: bool [], it has taken part; else `variables` are a place-holder.
  """

  variables: Variables
  started: jax.Array


def none_yet(variables: Variables) -> Own:
  """The state of a client that has not taken part, for `client_init`."""
  return Own(variables, jnp.array(False))


def started(variables: Variables) -> Own:
  """The state of one that has."""
  return Own(variables, jnp.array(True))


def start_of(own: Own, server: Variables) -> Variables:
  """Where its training begins: its own model, at first the server's."""
  return trees.where(own.started, own.variables, server)
