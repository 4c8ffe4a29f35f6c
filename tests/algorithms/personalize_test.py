"""What clients are evaluated with does not depend on how training is cut short.

Stragglers and a schedule of rates are of training. A client's own model, where
it is made for the evaluation, is trained whole.
"""

import jax
import numpy as np
import optax
import pytest
from jax import numpy as jnp

from fedjax_sim import algorithms
from tests import toys

MODEL = toys.softmax_model()
DATA = toys.softmax_data([7, 9])
CASES = {
    'pfedme': lambda **training: algorithms.pfedme(
        MODEL, optax.sgd(0.1), lam=2.0, personal_lr=0.1, **training),
    'fedrep': lambda **training: algorithms.fedrep(
        MODEL, optax.sgd(0.1), personal='/b$', head_epochs=3, **training),
    'ditto': lambda **training: algorithms.ditto(
        MODEL, optax.sgd(0.1), lam=0.5, **training),
    'apfl': lambda **training: algorithms.apfl(
        MODEL, optax.sgd(0.1), **training),
    'per_fedavg': lambda **training: algorithms.per_fedavg(
        MODEL, optax.sgd(0.1), personal_lr=0.1, **training),
}


def shown(algorithm):
  """The model of a client that joins after three rounds."""
  key = jax.random.key(0)
  variables = MODEL.init(key, DATA.examples['x'][:1])
  state = algorithm.init(variables, key, 2)._replace(round=jnp.int32(3))
  return algorithm.personalize(
      state, algorithm.client_init(variables), toys.client_data(DATA, 1), key)


@pytest.mark.parametrize('name', CASES)
def test_it_is_as_without_stragglers_and_decay(name):
  whole = {'epochs': 4, 'batch_size': 2}
  cut = whole | {'stragglers': 1.0, 'client_schedule': lambda r: 0.1 ** r}
  got, want = (shown(CASES[name](**options)) for options in (cut, whole))
  jax.tree.map(np.testing.assert_array_equal, got, want)
