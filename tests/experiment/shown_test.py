"""What Python shows of results and of their parts is one short line."""

import optax
import pytest

import fedjax_sim as fs
from tests import toys

MODEL = toys.softmax_model()
DATA = toys.softmax_data([5, 4, 6])
AGGREGATOR = fs.aggregation.aggregator(
    fs.aggregation.clip(1.0), fs.aggregation.quantize(4),
    reduce=fs.aggregation.fixed_mean(3))


def algorithm(rate=0.1):
  return fs.algorithms.fedavg(
      MODEL, optax.sgd(rate), aggregator=AGGREGATOR, batch_size=4)


@pytest.mark.parametrize('shown, wanted', [
    (MODEL, 'Model(made by softmax_model)'),
    (algorithm(), 'FederatedAlgorithm(made by fedavg, '
     'Aggregator(clip, quantize, fixed_mean(n)))'),
    (fs.algorithms.scaffold(MODEL, 0.1), 'FederatedAlgorithm(made by scaffold, '
     'Aggregator(weighted_mean()))'),
    (AGGREGATOR.transform, 'MessageTransform(clip, quantize)'),
    (fs.aggregation.clip(1.0), 'MessageTransform(clip)'),
    (fs.aggregation.median(), 'Reducer(median())'),
    (fs.aggregation.coordinate_median(), 'Stage(coordinate_median)'),
    (fs.data.sampling.uniform(2000, 5, seed=0),
     'Sampler(made by uniform, at most 5 of 2,000 clients)'),
], ids=lambda value: None if isinstance(value, str) else type(value).__name__)
def test_parts_tell_what_has_made_them(shown, wanted):
  assert repr(shown) == wanted


def test_results_tell_where_they_ended():
  result = fs.simulate(
      MODEL, algorithm(), DATA, rounds=2, clients_per_round=2,
      test=DATA.examples, best_metric='test/accuracy', best_mode='max',
      client_test=DATA, client_eval_every=2)
  last = result.records[-1]
  assert repr(result) == (
      f'Result(2 rounds, test/accuracy={last["test/accuracy"]:.4g}, '
      f'test/loss={last["test/loss"]:.4g})')
  assert repr(result._replace(stopped=True)).endswith(', stopped)')
  assert repr(result._replace(records=[])) == 'Result(0 rounds)'
  assert repr(result.best).startswith('Best(test/accuracy: ')
  assert repr(result.clients) == (
      'ClientHistory(accuracy, loss of 3 clients in 2 rounds)')
  assert '\n' not in repr(fs.data.load('digits'))
