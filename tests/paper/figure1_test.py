"""Averaging two models: what the script measures, and what is committed."""

import json

import jax
import matplotlib.image
import numpy as np
import pytest

from benchmarks.paper import figure1
from fedjax_sim import data, evaluation, models
from fedjax_sim.core import random

EXAMPLES = data.load('digits').train


@pytest.fixture(scope='module')
def run():
  return figure1.measure(EXAMPLES, 0, size=479, epochs=20)


def test_the_ends_are_the_two_models_after_all_their_updates(run):
  key = jax.random.key(0)
  parts = data.partition.iid(1437, 3, seed=0)
  train = figure1.trainer(
      models.mnist_2nn(), data.federate(EXAMPLES, parts[:2]))
  start = models.mnist_2nn().init(
      random.named(key, 'first'), EXAMPLES['x'][:1])
  for client, place in ((0, 2), (1, 0)):
    local = train(start, client, key)
    assert local.num_steps == 20 * 10  # ceil(479 / 50) = 10.
    loss = evaluation.evaluate(
        models.mnist_2nn(), local.variables, EXAMPLES)['loss']
    assert loss == pytest.approx(run['shared']['marked'][place], rel=1e-5)
  assert run['different']['marked'][2] == run['shared']['marked'][2]
  assert run['different']['marked'][0] != run['shared']['marked'][0]


def test_only_from_shared_weights_does_averaging_help(run):
  first, average, second = run['shared']['marked']
  assert average < min(first, second)
  first, average, second = run['different']['marked']
  assert average > 2 * max(first, second)


def test_curves_pass_through_the_marked_points(run):
  for panel in figure1.PANELS:
    between = np.interp(
        figure1.MARKED, figure1.THETAS, run[panel]['losses'])
    np.testing.assert_allclose(between, run[panel]['marked'], rtol=0.02)


def test_the_committed_result_is_the_figure_of_the_paper(tmp_path):
  line = json.loads(figure1.RESULTS.read_text().splitlines()[-1])
  np.testing.assert_allclose(
      line['thetas'], np.linspace(-0.2, 1.2, 50), atol=1e-9)
  assert [run['seed'] for run in line['runs']] == [0, 1, 2]
  for run in line['runs']:
    first, average, second = run['shared']['marked']
    assert average < min(first, second)
    first, average, second = run['different']['marked']
    assert average > max(first, second)
  figure1.plot(line, tmp_path / 'figure1.png')
  drawn = [matplotlib.image.imread(path)
           for path in (tmp_path / 'figure1.png', figure1.FIGURE)]
  assert drawn[0].shape == drawn[1].shape and drawn[1].std() > 0.05
