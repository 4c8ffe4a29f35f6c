"""What `simulate` refuses is said in the words of what is wrong."""

import flax.linen as nn
import optax
import pytest

import fedjax_sim as fs
from tests import toys

MODEL = toys.softmax_model()
DATA = toys.softmax_data([5, 4, 6])


def run(algorithm=None, model=MODEL, **options):
  algorithm = algorithm or fs.algorithms.fedavg(
      MODEL, optax.sgd(0.1), batch_size=4)
  return fs.simulate(model, algorithm, DATA, **{
      'rounds': 1, 'clients_per_round': 2, 'test': DATA.examples} | options)


def test_another_algorithms_state_lacks_client_states():
  with pytest.raises(ValueError, match=(
      'resume_from must be of this model and algorithm. It is of another '
      'algorithm: it lacks client states')):
    run(fs.algorithms.scaffold(MODEL, 0.1), resume_from=run(), rounds=2)


def test_a_metric_that_is_not_measured_is_named_with_those_that_are():
  with pytest.raises(ValueError, match=(
      "best_metric must be one of test/accuracy, test/loss, got 'test/acc'")):
    run(best_metric='test/acc', best_mode='max')


def test_an_algorithm_of_another_model_is_told():
  layers = lambda width: fs.models.from_linen(
      nn.Sequential([nn.Dense(width), nn.Dense(3)]))
  other = fs.algorithms.fedavg(layers(5), optax.sgd(0.1))
  with pytest.raises(ValueError, match='built with another model'):
    run(other, layers(4))
