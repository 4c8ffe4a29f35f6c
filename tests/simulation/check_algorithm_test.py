"""A part of a user's own that breaks its contract is named before any round."""

import warnings

import jax
import optax
import pytest
from jax import numpy as jnp

from fedjax_sim import aggregation, algorithms
from fedjax_sim.clients.local_training import local_training
from fedjax_sim.core.types import Aggregate, ClientOutput, Message, Reducer
from fedjax_sim.data import sampling
from fedjax_sim.simulation import build as build_lib
from tests import toys

# Parameters w [4, 3] and b [3].
MODEL = toys.softmax_model()
DATA = toys.softmax_data([3, 2, 4])


def build(algorithm):
  return build_lib.build(
      MODEL, algorithm, DATA, sampling.uniform(3, 3, seed=0), devices=1,
      lanes=1)


def with_client(change):
  """FedAvg whose client's output is changed."""
  train = local_training(MODEL, optax.sgd(0.1), batch_size=2)

  def client(server, state, data, key):
    local = train.run(server.variables, data, key, server.round)
    message = train.message(local, server.variables, data)
    return change(ClientOutput(message, state, local.metrics))

  return algorithms.from_client_update(client)


def with_message(**fields):
  return with_client(lambda output: output._replace(
      message=output.message._replace(**{
          name: field(output.message) for name, field in fields.items()})))


def with_server(change):
  """FedAvg whose server's state is changed."""
  base = algorithms.fedavg(MODEL, optax.sgd(0.1), batch_size=2)
  return base._replace(server=lambda *args: change(base.server(*args)))


def with_params(change):
  return with_server(lambda state: state._replace(
      variables=state.variables._replace(
          params=jax.tree.map(change, state.variables.params))))


def with_aggregator(*transforms, **reduce):
  return algorithms.fedavg(
      MODEL, optax.sgd(0.1), batch_size=2,
      aggregator=aggregation.aggregator(*transforms, **reduce))


def transform(**parts):
  return with_aggregator(aggregation.transform('mine', **parts))


def stage(run):
  return with_aggregator(reduce=aggregation.buffered(
      aggregation.clip(1.0), aggregation.Stage('mine', run)))


def trimmed_mean(axis):
  """Of all but the smallest and the largest value."""
  def run(messages: Message, state, broadcast, key):
    middle = lambda u: jnp.sort(u, axis=0)[1:-1].mean(axis)
    count = messages.present.sum(dtype=jnp.int32)
    weight = messages.weight.sum()
    return Aggregate(jax.tree.map(middle, messages.update), weight, weight,
                     count, messages.sums), state, {}
  return stage(run)


def reducer(**changes):
  base = aggregation.weighted_mean()
  return with_aggregator(reduce=Reducer(**{
      **base._asdict(), 'name': 'mine', 'plain': False, **changes}))


FIRST = lambda tree: jax.tree.map(lambda x: x.ravel()[:1], tree)
CLIENT, SERVER = "algorithm's client", "algorithm's server"
PAIRS = r'metrics as name -> \(sum, count\)'

# name -> (algorithm, what the error says).
BROKEN = {
    'update shorter': (
        lambda: with_message(update=lambda m: FIRST(m.update)),
        rf"{CLIENT}.*update like the variables: params/b is float32\[1\] and "
        r'must be float32\[3\]'),
    'update of scalars': (
        lambda: with_message(update=lambda m: jax.tree.map(
            jnp.mean, m.update)),
        rf'{CLIENT}.*params/b is float32\[\] and must be float32\[3\]'),
    'update of params': (
        lambda: with_message(update=lambda m: m.update.params),
        rf'{CLIENT}.*params/b is missing'),
    'weight is a number': (
        lambda: with_message(weight=lambda m: 1.0),
        rf"{CLIENT} must return arrays as the message's weight, it is a float"),
    'weight of a shape': (
        lambda: with_message(weight=lambda m: jnp.ones(2)),
        rf'{CLIENT}.*weight.*float32\[2\] for float32\[3\]'),
    'no message': (
        lambda: with_client(lambda output: output._replace(message=None)),
        rf'{CLIENT} must return a Message\(.*got None'),
    'no output': (
        lambda: with_client(lambda output: tuple(output)),
        rf'{CLIENT} must return a ClientOutput\(.*got a tuple of 3'),
    'scalar metric': (
        lambda: with_client(lambda output: output._replace(
            metrics={**output.metrics, 'drift': jnp.float32(1)})),
        rf"{CLIENT} must return {PAIRS}.*'drift' is float32\[\]"),
    'metric of vectors': (
        lambda: with_client(lambda output: output._replace(
            metrics={'drift': (jnp.ones(3), 1.0)})),
        rf"{CLIENT} must return {PAIRS}.*'drift' holds float32\[3\]"),
    'state from nowhere': (
        lambda: with_client(lambda output: output._replace(
            state={'n': jnp.float32(1)})),
        rf'{CLIENT} must return a state like .*client_init.*n is too many'),
    'state of a dtype': (
        lambda: with_client(lambda output: output._replace(
            state=jnp.float32(1)))._replace(
                client_init=lambda variables: jnp.int32(0)),
        rf'{CLIENT}.*it is float32\[\] and must be int32\[\]'),
    'client fails without its state': (
        lambda: with_client(lambda output: output._replace(
            state=optax.sgd(0.1, momentum=0.9).update(
                output.message.update.params, output.state)[1])),
        rf'{CLIENT} fails with .*ValueError.*client_init has given none'),
    'server returns a pair': (
        lambda: with_server(lambda state: (state, {})),
        rf'{SERVER} must return a ServerState\(.*got a tuple of 2'),
    'server of a dtype': (
        lambda: with_params(lambda x: x.astype(jnp.bfloat16)),
        rf'{SERVER}.*variables/params/b is bfloat16\[3\] and must be '
        r'float32\[3\]'),
    'server of a shape': (
        lambda: with_params(lambda x: x.T),
        rf'{SERVER}.*params/w is float32\[3, 4\] and must be float32\[4, 3\]'),
    'server with more': (
        lambda: with_server(lambda state: state._replace(
            extra={'m': jnp.zeros(3)})),
        rf'{SERVER}.*extra/m is too many, float32\[3\]'),
    'server of two arguments': (
        lambda: with_server(None)._replace(server=lambda state, mean: state),
        rf'{SERVER} fails with .*TypeError'),
    'transform of a shape': (
        lambda: transform(client=lambda message, state, memory, *_: (
            message._replace(update=FIRST(message.update)), memory)),
        r"transform 'mine': its server or decode .*params/b is float32\[1\] "
        r'and must be float32\[3\]'),
    'transform with a message only': (
        lambda: transform(client=lambda message, *_: message),
        r"transform 'mine': its client must return \(message, memory\), got a "
        'Message'),
    'transform with a memory from nowhere': (
        lambda: transform(client=lambda message, *_: (message, jnp.ones(2))),
        "transform 'mine': its client must return a memory like"),
    'transform with a pair from the server': (
        lambda: transform(server=lambda aggregate, state, *_: (
            aggregate, state)),
        r"transform 'mine': its server must return \(aggregate, state, "
        r'metrics\), got a tuple of 2'),
    'transform with a state of a dtype': (
        lambda: transform(
            init=lambda *_: jnp.int32(0),
            server=lambda aggregate, state, *_: (aggregate, state + 0.5, {})),
        r"'mine': its server must return a state .*float32\[\] and must be "
        r'int32\[\]'),
    'transform with metrics of vectors': (
        lambda: transform(server=lambda aggregate, state, *_: (
            aggregate, state, {'norm': jnp.ones(2)})),
        r"'mine': its server.*metrics as name -> scalar; 'norm' is "
        r'float32\[2\]'),
    'transform of the way down': (
        lambda: transform(broadcast=lambda message, state, key: (
            FIRST(message), state, 8)),
        "'mine': its broadcast must return a message like"),
    'transform within another': (
        lambda: with_aggregator(aggregation.on('w', aggregation.transform(
            'mine', client=lambda message, *_: message))),
        r"transform 'mine': its client must return \(message, memory\)"),
    'transform of a buffer': (
        lambda: with_aggregator(reduce=aggregation.buffered(
            aggregation.transform('mine', client=lambda message, *_: message),
            aggregation.median())),
        r"transform 'mine': its client must return \(message, memory\)"),
    'transform of a downlink': (
        lambda: with_aggregator(aggregation.downlink(aggregation.transform(
            'mine', client=lambda message, *_: message))),
        r"transform 'mine': its client must return \(message, memory\)"),
    'stage without its axis': (
        lambda: trimmed_mean(axis=None),
        r'reducer buffered\(clip, mine\): its finalize must return a mean .*'
        r'params/b is float32\[\] and must be float32\[3\]'),
    'stage with a pair': (
        lambda: stage(lambda messages, state, *_: (messages, state)),
        r"stage 'mine': its run must return \(messages or aggregate, state, "
        r'metrics\), got a tuple of 2'),
    'reducer with another accumulator': (
        lambda: reducer(accumulate=lambda accumulator, messages: messages),
        'reducer mine: its accumulate must return an accumulator like'),
    'reducer with an aggregate only': (
        lambda: reducer(finalize=lambda *args: aggregation.weighted_mean(
            ).finalize(*args)[0]),
        r'reducer mine: its finalize must return \(aggregate, state, metrics\)'
        ', got a Aggregate'),
}


@pytest.mark.parametrize('name', BROKEN)
def test_what_breaks_its_contract_is_named_before_any_round(name):
  make, error = BROKEN[name]
  with pytest.raises(ValueError, match=error):
    build(make())


def test_what_keeps_its_contract_is_taken():
  build(with_client(lambda output: output))
  build(with_client(lambda output: output._replace(metrics={
      **output.metrics, 'drift': (optax.tree.norm(
          output.message.update.params), 1.0)})))
  build(trimmed_mean(axis=0))
  build(reducer())


@pytest.mark.parametrize('weight, error', [
    (lambda m: -m.weight, 'not negative, .* got -2 for one with 2 examples'),
    (lambda m: 0 * m.weight, 'not 0 for all clients, got 0 for one with 2'),
    (lambda m: 2.5 - m.weight, 'got -0.5 for one with 3 examples')])
def test_weights_that_are_not_positive_are_named(weight, error):
  with pytest.raises(ValueError, match=error):
    build(with_message(weight=weight))


def test_weights_that_depend_on_the_update_are_taken():
  build(with_message(weight=lambda m: -optax.tree.norm(m.update)))


def by_size(weighting, **options):
  algorithm = algorithms.fedavg(
      MODEL, optax.sgd(0.1), weighting=weighting, **options)
  with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter('always')
    build_lib.build(
        MODEL, algorithm, DATA, sampling.by_size(DATA.sizes, 2, seed=0),
        devices=1, lanes=1)
  return [one for one in caught if 'count twice' in str(one.message)]


def test_drawing_and_weighing_by_size_is_warned_of():
  told, = by_size('examples')
  assert told.filename == __file__  # Not a file of the package.
  assert not by_size('uniform')
  assert not by_size('examples', aggregator=aggregation.aggregator(
      reduce=aggregation.median()))
