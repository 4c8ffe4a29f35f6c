import jax
import numpy as np
import optax
import pytest

from fedjax_sim import algorithms, evaluation
from fedjax_sim.core.types import Variables
from fedjax_sim.data.federated import federate
from tests import toys

MODEL = toys.softmax_model()


def reference(params, examples):
  """(accuracy, loss) in plain NumPy."""
  scores = examples['x'] @ params['w'] + params['b']
  log_p = scores - np.log(np.exp(scores).sum(1, keepdims=True))
  rows = np.arange(len(scores))
  return ((scores.argmax(1) == examples['y']).mean(),
          -log_p[rows, examples['y']].mean())


def variables(seed=0):
  return jax.device_get(MODEL.init(jax.random.key(seed), None))


@pytest.mark.parametrize('batch_size', [1, 7, 55, 56, 1000])
def test_every_example_counts_once(batch_size):
  examples = toys.softmax_data([55]).examples
  got = evaluation.evaluate(MODEL, variables(), examples, batch_size)
  accuracy, loss = reference(variables().params, examples)
  assert got['accuracy'] == pytest.approx(accuracy)
  assert got['loss'] == pytest.approx(loss, rel=1e-5)


def test_empty_test_set_is_refused():
  with pytest.raises(ValueError, match='at least one example'):
    evaluation.in_batches({'x': np.zeros((0, 3)), 'y': np.zeros(0)})


def client_setup(sizes, personal=False):
  data = toys.softmax_data(sizes)
  algorithm = algorithms.fedavg(MODEL, optax.sgd(0.1))
  if personal:
    algorithm = algorithm._replace(
        client_init=lambda v: v.params,
        personalize=lambda state, own, data, key: Variables(own, {}))
  state = toys.run_cohorts(MODEL, algorithm, data, [list(range(len(sizes)))])
  return data, algorithm, state


@pytest.mark.parametrize('lanes,batch_size', [(1, 10), (4, 3)])
def test_clients_are_evaluated_on_their_own_data(lanes, batch_size):
  train, algorithm, state = client_setup([5, 8, 3, 4, 9])
  sizes = [1, 37, 0, 12, 5]
  examples = toys.softmax_data([sum(sizes)], seed=7).examples
  test = federate(examples, toys.partition_of(sizes), allow_empty=True)
  got = evaluation.evaluate_clients(
      MODEL, algorithm, state, train, test, key=jax.random.key(0), lanes=lanes,
      batch_size=batch_size)
  params = jax.device_get(state.server.variables.params)
  for k, size in enumerate(sizes):
    if size == 0:
      assert np.isnan(got.values['accuracy'][k])
      continue
    accuracy, loss = reference(params, test.client(k))
    assert got.values['accuracy'][k] == pytest.approx(accuracy)
    assert got.values['loss'][k] == pytest.approx(loss, rel=1e-5)
  np.testing.assert_array_equal(got.num_examples, sizes)


def test_clients_are_evaluated_with_what_personalize_gives():
  train, algorithm, state = client_setup([5, 8, 3], personal=True)
  own = {k: np.stack([variables(s).params[k] for s in range(3)]) for k in 'wb'}
  state = state._replace(clients=own)
  got = evaluation.evaluate_clients(
      MODEL, algorithm, state, train, train, key=jax.random.key(0))
  want = [reference(variables(s).params, train.client(s))[0] for s in range(3)]
  np.testing.assert_allclose(got.values['accuracy'], want)


def test_some_of_the_clients_have_their_own_states():
  # More clients than states may be filled up with, for devices.
  train, algorithm, state = client_setup(
      [5, 8, 3, 9, 4, 7, 2, 6, 1, 5, 3, 4], personal=True)
  own = {k: np.stack([variables(s).params[k] for s in range(12)]) for k in 'wb'}
  state = state._replace(clients=own)
  run = lambda data, **options: evaluation.evaluate_clients(
      MODEL, algorithm, state, data, data, key=jax.random.key(0),
      **options).values['loss']
  some = federate(train.examples, [
      np.arange(*train.offsets[k:k + 2]) for k in (4, 1)])
  np.testing.assert_allclose(
      run(some, clients=[4, 1]), run(train)[[4, 1]], rtol=1e-6)
  with pytest.raises(ValueError, match='say with clients= which'):
    run(some)
  for wrong in ([4], [4, 12], [-1, 0]):
    with pytest.raises(ValueError, match='clients must be the numbers'):
      run(some, clients=wrong)


def test_summary_over_clients():
  values = np.array([0.1, 0.2, np.nan, 0.3, 0.4, 0.5])
  got = evaluation.ClientMetrics(
      {'accuracy': values, 'loss': values, 'mae': values, 'other': values},
      np.array([1, 1, 0, 1, 1, 1]),
      {'accuracy': True, 'loss': False, 'mae': False}).summary()
  assert got['accuracy/mean'] == pytest.approx(0.3)
  assert got['accuracy/p50'] == pytest.approx(0.3)
  assert got['accuracy/p10'] == pytest.approx(0.14)
  assert got['accuracy/worst'] == 0.1
  assert got['loss/worst'] == got['mae/worst'] == 0.5
  # Nobody said which direction is better.
  assert 'other/p90' in got and 'other/worst' not in got


def test_clients_of_whom_there_is_no_value_are_left_out_and_counted():
  values = np.array([0.5, np.nan, 0.7])
  sizes, defined = np.array([1, 1, 1]), np.array([True, False, True])
  got = evaluation.ClientMetrics(
      {'auc': values}, sizes, {'auc': True}, {'auc': defined}).summary()
  assert got['auc/mean'] == pytest.approx(0.6) and got['auc/clients'] == 2
  # What has diverged is no such value.
  got = evaluation.ClientMetrics({'auc': values}, sizes).summary()
  assert np.isnan(got['auc/mean']) and 'auc/clients' not in got


@pytest.mark.parametrize('ids, message', [
    (('0',), r"1 only in train \(such as '1'\)\.$"),
    (('0', '1', 'b', 'a'), r"2 only in test \(such as 'a'\)\.$"),
    (('1', 'c'), r"1 only in train \(such as '0'\) and 1 only in test "
                 r"\(such as 'c'\)\.$"),
])
def test_other_clients_are_refused(ids, message):
  train, algorithm, state = client_setup([5, 8])
  test = toys.softmax_data([3] * len(ids))._replace(client_ids=list(ids))
  message = 'must hold the same clients.*' + message
  with pytest.raises(ValueError, match=message):
    evaluation.evaluate_clients(
        MODEL, algorithm, state, train, test, key=jax.random.key(0))


@pytest.mark.parametrize('new_clients', [False, True])
def test_clients_are_told_by_their_ids(new_clients):
  train, algorithm, state = client_setup([5, 8, 3, 6], personal=not new_clients)
  if not new_clients:
    state = state._replace(clients={
        k: np.stack([variables(s).params[k] for s in range(4)]) for k in 'wb'})
  train = train._replace(client_ids=['a', 'b', 'c', 'd'])
  sizes = [4, 0, 7, 2]
  test = federate(toys.softmax_data([13], seed=5).examples,
                  toys.partition_of(sizes), train.client_ids, allow_empty=True)
  order = [2, 0, 3, 1]
  other = federate(
      test.examples, [np.arange(*test.offsets[k:k + 2]) for k in order],
      [test.client_ids[k] for k in order], allow_empty=True)
  run = lambda test: evaluation.evaluate_clients(
      MODEL, algorithm, state, train, test, key=jax.random.key(0),
      new_clients=new_clients)
  expected, got = run(test), run(other)
  np.testing.assert_array_equal(got.num_examples, sizes)
  assert len(np.unique(expected.values['loss'])) == 4
  np.testing.assert_allclose(
      got.values['loss'], expected.values['loss'], rtol=1e-6)


def test_states_without_a_client_in_train_are_refused():
  # On one device there is none that only fills up.
  train, algorithm, state = client_setup([5, 8, 3], personal=True)
  one = jax.sharding.SingleDeviceSharding(jax.devices()[0])
  state = state._replace(clients=jax.device_put(
      {k: np.stack([variables(s).params[k] for s in range(3)]) for k in 'wb'},
      one))
  two = federate(train.examples, toys.partition_of([5, 8]))
  with pytest.raises(ValueError, match='must hold the 3 clients that were'):
    evaluation.evaluate_clients(
        MODEL, algorithm, state, two, two, key=jax.random.key(0))


def own_counter():
  """Client state: how often it took part. Personalize adds it to the biases."""
  algorithm = algorithms.fedavg(MODEL, optax.sgd(0.1))
  plain = algorithm.client

  def client(server, count, data, key):
    output = plain(server, (), data, key)
    return output._replace(state=count + 1)

  return algorithm._replace(
      client_init=lambda variables: np.float32(0), client=client,
      personalize=lambda state, count, data, key: state.variables._replace(
          params=state.variables.params | {'b': state.variables.params['b']
                                           + count * np.arange(3.0)}))


def test_seen_unseen_and_new_clients():
  algorithm, train = own_counter(), toys.softmax_data([5, 8, 3])
  state = toys.run_cohorts(MODEL, algorithm, train, [[0, 1], [1]])
  params = jax.device_get(state.server.variables.params)
  after = lambda count: params | {'b': params['b'] + count * np.arange(3)}
  def check(got, federation, counts):
    want = [reference(after(count), federation.client(k))[1]
            for k, count in enumerate(counts)]
    np.testing.assert_allclose(got.values['loss'], want, rtol=1e-5)
  run = lambda federation, **options: evaluation.before_and_after(
      MODEL, algorithm, state, federation, federation, key=jax.random.key(0),
      **options)
  before, personal = run(train)
  check(before, train, [0, 0, 0])
  check(personal, train, [1, 2, 0])  # Client 2 has never taken part.
  others = toys.softmax_data([4, 6, 9, 2, 7], seed=3)
  before, personal = run(others, new_clients=True)
  check(before, others, [0] * 5)
  check(personal, others, [0] * 5)
  with pytest.raises(ValueError, match='set new_clients'):
    run(others)


def test_some_of_draws_rows_in_their_order_and_all_columns_alike():
  examples = {'x': np.arange(100), 'y': np.arange(100) * 3}
  some = evaluation.some_of(examples, 30)
  assert len(np.unique(some['x'])) == 30 and (np.diff(some['x']) > 0).all()
  np.testing.assert_array_equal(some['y'], some['x'] * 3)
  assert some['x'].max() > 50
  assert evaluation.some_of(examples, 0) is examples
  with pytest.raises(ValueError, match='at most 100'):
    evaluation.some_of(examples, 101)
