"""Transforms and reducers for the suites: ours, and others that need more."""

import jax
import optax
from jax import numpy as jnp

from fedjax_sim import aggregation, algorithms
from fedjax_sim.core import costs, precision
from fedjax_sim.core.types import Keys, Message


def padded_signs():
  """Flips signs by a key of the round, and pads to a multiple of eight."""
  def signs(x, key):
    return jax.random.rademacher(key, (-(-x.size // 8) * 8,), jnp.float32)

  def client(message: Message, state, memory, keys: Keys, cohort):
    encode = lambda u: signs(u, keys.round) * jnp.pad(
        u.ravel(), (0, -u.size % 8))
    update = jax.tree.map(encode, message.update)
    return message._replace(update=update, cost=costs.of(update)), memory

  def decode(update, state, key, like):
    return jax.tree.map(
        lambda u, x: (signs(x, key) * u)[:x.size].reshape(x.shape),
        update, like)

  return aggregation.transform('padded_signs', client=client, decode=decode)


def rounding(scale=16.0):
  """Whole numbers of 1 / scale."""
  return aggregation.transform(
      'rounding',
      client=lambda message, state, memory, keys, cohort: (message._replace(
          update=jax.tree.map(
              lambda u: jnp.round(scale * u), message.update)), memory),
      decode=lambda update, state, key, like: jax.tree.map(
          lambda u: u / scale, update))


def noise(deviation=0.01):
  """Normal noise on the mean, once for a round."""
  def server(aggregate, state, key, cohort):
    leaves, treedef = jax.tree.flatten(aggregate.mean)
    noisy = [x + deviation * jax.random.normal(jax.random.fold_in(key, i),
                                               x.shape)
             for i, x in enumerate(leaves)]
    mean = jax.tree.unflatten(treedef, noisy)
    return aggregate._replace(mean=mean), state, {}
  return aggregation.transform('noise', server=server)


def random_mask(share=0.5):
  """Each coordinate is sent with some probability, and weighs accordingly."""
  def client(message: Message, state, memory, keys: Keys, cohort):
    leaves, treedef = jax.tree.flatten(message.update)
    drawn = [jax.random.bernoulli(jax.random.fold_in(keys.client, i), share,
                                  x.shape) for i, x in enumerate(leaves)]
    sent = jax.tree.unflatten(treedef, drawn)
    update = jax.tree.map(
        lambda u, m: jnp.where(m, u / share, 0), message.update, sent)
    return message._replace(
        update=update, sent=sent, cost=costs.of(update, sent)), memory
  return aggregation.transform('random_mask', client=client)


def flipped():
  """An attack that sees all messages: the first one becomes minus the sum."""
  def run(messages, state, broadcast, key):
    first = jnp.argmax(messages.present)
    flip = lambda u: u.at[first].set(
        jnp.where(messages.present.any(), -u.sum(0), u[first]))
    return messages._replace(
        update=jax.tree.map(flip, messages.update)), state, {}
  return aggregation.Stage('flipped', run)


def momentum(decay=0.5):
  """A reducer with state: the mean, with momentum over rounds."""
  base = aggregation.weighted_mean()

  def finalize(accumulator, velocity, broadcast, key):
    aggregate, _, _ = base.finalize(accumulator, (), broadcast, key)
    velocity = jax.tree.map(
        lambda v, m: decay * v + m, velocity, aggregate.mean)
    length = optax.tree.norm(velocity)
    return aggregate._replace(mean=velocity), velocity, {'length': length}

  return base._replace(
      finalize=finalize, plain=False,
      initial=lambda message, num_clients, key: precision.wide_zeros(
          message.update))


def coarse():
  """A chain in a chain."""
  return aggregation.chain(
      aggregation.clip(0.3), aggregation.chain(padded_signs(), rounding()))


# Codes of values, which are one mechanism.
CODES = {
    'qsgd': lambda: aggregation.qsgd(3),
    'terngrad': lambda: aggregation.terngrad(coder='entropy'),
    'sign_sgd': aggregation.sign_sgd,
    'eden': lambda: aggregation.eden(2, over='vector'),
    'cast': lambda: aggregation.chain(
        aggregation.rotate(), aggregation.cast(stochastic=True)),
}
TRANSFORMS = {
    'clip': lambda: aggregation.clip(0.05),
    'adaptive_clip': lambda: aggregation.adaptive_clip(0.05),
    'chain': coarse,
    'error_feedback': lambda: aggregation.error_feedback(
        padded_signs(), rounding()),
    'ef21': lambda: aggregation.ef21(padded_signs(), rounding()),
    'sparse': lambda: aggregation.error_feedback(
        aggregation.top_k(0.5), aggregation.quantize(4)),
    'noise': noise,
    'random_mask': random_mask,
    'on': lambda: aggregation.on('params', coarse()),
    'sketched': lambda: aggregation.chain(
        aggregation.rotate('vector'), aggregation.subsample(0.5),
        aggregation.quantize(4)),
}
REDUCERS = {
    'weighted_mean': aggregation.weighted_mean,
    'fixed_mean': lambda: aggregation.fixed_mean(3.0),
    'median': aggregation.median,
    'majority_vote': aggregation.majority_vote,
    'buffered': lambda: aggregation.buffered(
        flipped(), aggregation.clip(0.1), aggregation.weighted_mean()),
    'momentum': momentum,
}
AGGREGATORS = {
    **{name: lambda make=make: aggregation.aggregator(make())
       for name, make in (TRANSFORMS | CODES).items()},
    **{name: lambda make=make: aggregation.aggregator(reduce=make())
       for name, make in REDUCERS.items()},
    'masked_mean': lambda: aggregation.masked_mean(2.0 ** 20),
    'private_mean': lambda: aggregation.private_mean(
        aggregation.adaptive(0.05), noise=0.5, cohort_size=3),
}
# With two vectors in an update, two exchanges, groups, and clients' states.
ALGORITHMS = {
    'mimelite': lambda model, aggregator: algorithms.mimelite(
        model, optax.sgd(0.05, momentum=0.5), epochs=2, batch_size=2,
        aggregator=aggregator),
    'scaffold': lambda model, aggregator: algorithms.scaffold(
        model, 0.05, epochs=2, batch_size=2, aggregator=aggregator),
    'mime': lambda model, aggregator: algorithms.mime(
        model, optax.sgd(0.05, momentum=0.5), batch_size=2,
        aggregator=aggregator),
    'ifca': lambda model, aggregator: algorithms.ifca(
        model, optax.sgd(0.05), clusters=2, batch_size=2,
        aggregator=aggregator),
}
