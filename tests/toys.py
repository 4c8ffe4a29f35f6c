"""Small problems with known answers, for tests of everything above models."""

import jax
import numpy as np
from jax import numpy as jnp

from fedjax_sim.core import random
from fedjax_sim.core.types import ClientData, Model, Variables
from fedjax_sim.data import sampling
from fedjax_sim.data.federated import federate
from fedjax_sim.simulation import build as build_lib
from fedjax_sim.simulation.drive import drive


def linear_model(init_scale=0.0):
  """y = x.w + b with squared error; params {'w': [d], 'b': []}."""

  def init(key, inputs):
    w = init_scale * jax.random.normal(key, (inputs.shape[-1],))
    return Variables({'w': w, 'b': jnp.zeros(())}, {})

  def apply(params, model_state, inputs, *, key, train, mask):
    del key, train, mask
    return inputs @ params['w'] + params['b'], model_state

  def loss(outputs, examples):
    return 0.5 * (outputs - examples['y']) ** 2

  return Model(init, apply, loss, lambda outputs, examples: {})


def quadratic_model(dim=2):
  """loss(w; x) = |w - x|^2 / 2: a client's optimum is its mean example."""

  def init(key, inputs):
    del key, inputs
    return Variables({'w': jnp.zeros(dim)}, {})

  def apply(params, model_state, inputs, *, key, train, mask):
    del key, train, mask
    return jnp.broadcast_to(params['w'], inputs.shape), model_state

  def loss(outputs, examples):
    return 0.5 * jnp.sum((outputs - examples['x']) ** 2, axis=-1)

  return Model(init, apply, loss, lambda outputs, examples: {})


def curved_model(dim=2):
  """loss(w; x, a) = a |w - x|^2 / 2: clients of different curvatures a."""
  base = quadratic_model(dim)

  def loss(outputs, examples):
    square = jnp.sum((outputs - examples['x']) ** 2, axis=-1)
    return 0.5 * examples['y'] * square

  return base._replace(loss=loss)


CURVATURES = np.array([1.0, 2.0, 6.0])
OPTIMA = np.array([[0.0, 0.0], [1.0, 1.0], [4.0, 2.0]])


def curved_data(sizes=(4, 4, 4)):
  """For `curved_model`: clients of one point, OPTIMA, many times over.

  So every batch of a client has the same gradient, CURVATURES times the
  distance, and slow references need no orders.
  """
  return federate({'x': np.repeat(OPTIMA, sizes, axis=0).astype(np.float32),
                   'y': np.repeat(CURVATURES, sizes).astype(np.float32)},
                  partition_of(sizes))


def curved_optimum(weights=(1, 1, 1)):
  """The minimum of the mean of the clients' losses with these weights."""
  return np.average(OPTIMA, axis=0, weights=np.asarray(weights) * CURVATURES)


def softmax_model(num_classes=3, dim=4):
  """Logistic regression; weights drawn from the key."""

  def init(key, inputs):
    del inputs
    return Variables({'w': jax.random.normal(key, (dim, num_classes)),
                      'b': jnp.zeros(num_classes)}, {})

  def apply(params, model_state, inputs, *, key, train, mask):
    del key, train, mask
    return inputs @ params['w'] + params['b'][None], model_state

  def loss(outputs, examples):
    log_p = jax.nn.log_softmax(outputs)
    return -jnp.take_along_axis(log_p, examples['y'][:, None], 1)[:, 0]

  def metrics(outputs, examples):
    right = (outputs.argmax(-1) == examples['y']).astype(jnp.float32)
    return {'accuracy': (right, jnp.ones_like(right))}

  return Model(init, apply, loss, metrics)


def watching_model(dim=4):
  """`softmax_model` with a running mean of its inputs as model state."""
  base = softmax_model(dim=dim)

  def init(key, inputs):
    return base.init(key, inputs)._replace(
        model_state={'mean': jnp.zeros(dim)})

  def apply(params, model_state, inputs, *, key, train, mask):
    outputs, _ = base.apply(
        params, {}, inputs, key=key, train=train, mask=mask)
    if train:
      real = jnp.where(mask[:, None], inputs, 0)
      mean = real.sum(0) / jnp.maximum(mask.sum(), 1)
      model_state = {'mean': 0.9 * model_state['mean'] + 0.1 * mean}
    return outputs, model_state

  return base._replace(init=init, apply=apply)


def partition_of(sizes):
  """Consecutive examples for clients of these sizes."""
  return np.split(np.arange(sum(sizes)), np.cumsum(sizes)[:-1])


def softmax_data(sizes, seed=0, num_classes=3, dim=4):
  """A federation of noisy, learnable labels with clients of these sizes."""
  rng = np.random.default_rng(seed)
  x = rng.normal(size=(sum(sizes), dim)).astype(np.float32)
  scores = x @ rng.normal(size=(dim, num_classes)) + rng.normal(
      size=(len(x), num_classes))
  y = scores.argmax(-1).astype(np.int32)
  return federate({'x': x, 'y': y}, partition_of(sizes), allow_empty=True)


def points_data(points_of_clients):
  """A federation for `quadratic_model`: a list of arrays [n_k, dim]."""
  x = np.concatenate(points_of_clients).astype(np.float32)
  sizes = [len(points) for points in points_of_clients]
  return federate({'x': x, 'y': np.zeros(len(x), np.int32)},
                  partition_of(sizes))


def run_cohorts(model, algorithm, data, cohorts, lanes=2):
  """The state after rounds with these cohorts, given one by one."""
  sampler = sampling.Sampler(
      lambda r: np.array(cohorts[r]), max(map(len, cohorts)), data.num_clients)
  simulation = build_lib.build(model, algorithm, data, sampler, lanes=lanes)
  *_, last = drive(simulation, simulation.init(), len(cohorts))
  return last.state


def order_of_client(seed, sizes):
  """The documented keys, spelled out: what a client's epoch order is."""
  def order_of(round_number, client, epoch):
    key = random.round_key(jax.random.key(seed), round_number)
    key = random.named(random.client_key(key, client, 0), 'client')
    key = jax.random.fold_in(random.named(key, 'order'), epoch)
    return np.asarray(random.random_order(key, sizes[client], sizes[client]))
  return order_of


def client_data(data, client):
  """A client's view of a federation, as inside of a round."""
  examples = jax.tree.map(jnp.asarray, data.examples)
  return ClientData(examples, jnp.int32(data.offsets[client]),
                    jnp.int32(data.sizes[client]), data.max_size, True)


def personal_models(algorithm, state, data):
  """The Variables that each client is evaluated with, a list."""
  return [jax.device_get(algorithm.personalize(
      state.server, jax.tree.map(lambda x, k=k: x[k], state.clients),
      client_data(data, k), jax.random.key(k)))
          for k in range(data.num_clients)]
