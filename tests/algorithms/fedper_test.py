import jax
import numpy as np
import optax
import pytest

from fedjax_sim import aggregation, algorithms
from fedjax_sim.algorithms.parts import by_path, join
from fedjax_sim.core.types import Variables
from tests import toys
from tests.algorithms import split_toys

MODEL, DATA = split_toys.model(), split_toys.data()
SGD = optax.sgd(0.1)
COHORTS = [[0, 1], [1], [0, 1]]  # Client 2 never takes part.


def build(personal='head', **kwargs):
  return algorithms.fedper(
      MODEL, SGD, personal=personal,
      **{'epochs': 2, 'batch_size': None} | kwargs)


def reference(cohorts):
  body, heads = split_toys.BODY, [split_toys.HEAD] * 3
  for cohort in cohorts:
    bodies = []
    for k in cohort:
      own = body
      for _ in range(2):
        own, heads[k] = split_toys.step(own, heads[k], k, 0.1)
      bodies.append(own)
    body = np.average(bodies, axis=0,
                      weights=[split_toys.SIZES[k] for k in cohort])
  return body, heads


@pytest.mark.parametrize('personal', [
    'head', r'^params/h', lambda path: path == 'params/head'])
def test_rounds_by_hand(personal):
  algorithm = build(personal)
  state = toys.run_cohorts(MODEL, algorithm, DATA, COHORTS)
  body, heads = reference(COHORTS)
  np.testing.assert_allclose(
      state.server.variables.params['body'], body, rtol=1e-5)
  np.testing.assert_allclose(state.clients.params['head'], heads, rtol=1e-5)
  for own, head in zip(toys.personal_models(algorithm, state, DATA), heads,
                       strict=True):
    np.testing.assert_allclose(own.params['head'], head, rtol=1e-5)
    np.testing.assert_allclose(own.params['body'], body, rtol=1e-5)


def test_nothing_personal_is_in_a_message():
  seen = []
  spy = aggregation.transform('spy', client=lambda m, s, memory, *_: (
      seen.append(m.update), (m, memory))[1])
  algorithm = build(aggregator=aggregation.aggregator(spy))
  toys.run_cohorts(MODEL, algorithm, DATA, COHORTS)
  assert seen and all(update.params['head'] is None and
                      update.params['body'] is not None for update in seen)
  # The server's stays what it was, also under an optimizer that decays.
  decaying = algorithms.fedper(
      MODEL, SGD, optax.adamw(0.1, weight_decay=0.5), personal='head')
  for one in (algorithm, decaying):
    state = toys.run_cohorts(MODEL, one, DATA, COHORTS)
    np.testing.assert_array_equal(
        state.server.variables.params['head'], split_toys.HEAD)


@pytest.mark.parametrize('personal', ['tail', '.', lambda path: False])
def test_a_part_must_not_be_empty(personal):
  with pytest.raises(ValueError, match='params/body, params/head'):
    toys.run_cohorts(MODEL, build(personal), DATA, COHORTS)


def test_parts_make_the_whole():
  rng = np.random.default_rng(0)
  whole = Variables({'a': {'w': rng.normal(size=3)}, 'b': rng.normal(size=2)},
                    {'stats': {'a': rng.normal(size=1)}})
  parts = by_path('/a')
  own, shared = parts.personal(whole), parts.shared(whole)
  assert [x.shape for x in jax.tree.leaves(own)] == [(3,), (1,)]
  assert [x.shape for x in jax.tree.leaves(shared)] == [(2,)]
  for joined in (join(own, shared), join(own, whole), join(shared, whole)):
    jax.tree.map(np.testing.assert_array_equal, joined, whole)
