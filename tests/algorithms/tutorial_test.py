"""docs/own_algorithm.md: its code runs, and its algorithm is what it says."""

import re

import jax
import numpy as np
import optax

from fedjax_sim import algorithms, simulate
from fedjax_sim.core.types import FederatedAlgorithm
from tests import toys
from tests.algorithms import tutorial


def test_the_pages_code_trains(capsys):
  names = {}
  for block in tutorial.blocks():
    exec(compile(block, 'own_algorithm.md', 'exec'), names)
  # Ten digits; chance is 0.1.
  assert float(capsys.readouterr().out) > 0.8


def test_the_page_of_algorithms_names_them_all_and_its_code_runs():
  names = {}
  compose, evaluate = tutorial.blocks('algorithms.md')
  exec(compile(compose, 'algorithms.md', 'exec'), names)
  assert isinstance(names['algorithm'], FederatedAlgorithm)
  fs = names['fs']
  digits = fs.data.load('digits')
  model = fs.models.logistic_regression()
  names |= {
      'jax': jax, 'model': model, 'examples': digits.train,
      'algorithm': fs.algorithms.fedavg(model, optax.sgd(0.1)),
      'parts': fs.data.partition.iid(len(digits.train['y']), 10, seed=0)}
  exec(compile(evaluate, 'algorithms.md', 'exec'), names)
  assert names['own'].values['accuracy'].shape == (10,)
  assert names['own'].summary()['accuracy/mean'] > 0.7
  page = (tutorial.DOCS / 'algorithms.md').read_text()
  told = set(re.findall(r'`([a-z_]+)`', '\n'.join(
      line.split('|')[1] for line in page.splitlines() if '|' in line)))
  assert told == set(algorithms.__all__) - {'from_client_update'}


def test_it_is_short():
  lines = tutorial.blocks()[0].splitlines()
  assert len([line for line in lines if line.strip()]) < 40


def test_one_client_does_plain_momentum_which_fedavg_restarts():
  model = toys.quadratic_model()
  data = toys.points_data([np.array([[3.0, 1.0]])])
  optimizer = optax.sgd(0.1, momentum=0.9)
  w, velocity = np.zeros(2), np.zeros(2)
  for _ in range(6):
    velocity = 0.9 * velocity + (w - [3, 1])
    w = w - 0.1 * velocity
  got, restarted = (
      simulate(model, algorithm, data, rounds=6, client_fraction=1.0)
      .variables.params['w'] for algorithm in (
          tutorial.lasting_momentum(model, optimizer),
          algorithms.fedavg(model, optimizer)))
  np.testing.assert_allclose(got, w, rtol=1e-5)
  assert np.abs(restarted - w).max() > 0.5
