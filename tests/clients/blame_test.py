"""Errors of users' functions that only show in training."""

import jax
import numpy as np
import optax
import pytest

from fedjax_sim import algorithms
from fedjax_sim.experiment import simulate as simulate_lib
from tests import toys

BASE = toys.softmax_model()
DATA = toys.softmax_data([4, 4])


def fails_in_training(params, model_state, inputs, *, key, train, mask):
  if train:
    raise KeyError('dropout')
  return BASE.apply(params, model_state, inputs, key=key, train=train,
                    mask=mask)


def without_gradient(params, model_state, inputs, *, key, train, mask):
  outputs, state = BASE.apply(
      params, model_state, inputs, key=key, train=train, mask=mask)
  return jax.pure_callback(
      np.asarray, outputs, outputs, vmap_method='expand_dims'), state


@pytest.mark.parametrize('apply, message', [
    (fails_in_training, r"^the model fails on a batch of training examples "
     r"x=float32\[\d+,4\], y=int32\[\d+\]: KeyError: 'dropout'"),
    (without_gradient, '^the model fails .*: ValueError: Pure callbacks do not '
     'support JVP')])
@pytest.mark.parametrize('batch_size', [2, None])
def test_what_failed_is_named_before_the_first_round(
    apply, message, batch_size):
  model = BASE._replace(apply=apply)
  algorithm = algorithms.fedavg(
      model, optax.sgd(0.1), batch_size=batch_size)
  with pytest.raises(ValueError, match=message):
    simulate_lib.simulate(
        model, algorithm, DATA, rounds=1, client_fraction=1.0)
