"""A personal model for each client, which begins with its first round."""

from typing import NamedTuple

import jax
from jax import numpy as jnp

from fedjax_sim.core import frozen, trees
from fedjax_sim.core.types import Variables


class PersonalModel(NamedTuple):
  """A client's state.

  Attributes:
    variables: the personal model.
    started: bool [], the client has taken part; else `variables` are a
      placeholder.
  """

  variables: Variables
  started: jax.Array


def none_yet(variables: Variables) -> PersonalModel:
  """The state of a client that has not taken part, for `client_init`."""
  return PersonalModel(frozen.without(variables), jnp.array(False))


def started(variables: Variables) -> PersonalModel:
  """The state of one that has."""
  return PersonalModel(frozen.without(variables), jnp.array(True))


def start_of(personal: PersonalModel, server: Variables) -> Variables:
  """Where its training begins: at the personal model, at first the server's."""
  start = trees.where(
      personal.started, frozen.without(personal.variables),
      frozen.without(server))
  return start._replace(frozen=server.frozen)
