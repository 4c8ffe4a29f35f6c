"""EF21: clients send compressed changes of an estimate of their updates.

Client k keeps g_k, an estimate of n_k update_k with n_k its weight, zero at
first; the server keeps their sum G and the sum W of weights. In a round

    c_k = C(n_k update_k - g_k),  g_k = g_k + c_k      of the clients drawn
    G = G + sum_k c_k
    W = W + sum_k (n_k - the weight that k had told before)
    mean = G / W

Richtárik, Sokolov, Fatkhullin, "EF21: A New, Simpler, Theoretically Better, and
Practically Faster Error Feedback" (2021), algorithm 1, where a client's update
is its gradient; with some of the clients in a round it is EF21-PP of
Fatkhullin, Sokolov, Gorbunov, Li, Richtárik, "EF21 with Bells & Whistles: Six
Algorithmic Extensions of Modern Error Feedback" (2021), algorithm 4, in which
the weights are equal. The aggregate has W as its denominator; its weight is the
cohort's, as that of other means. C must be a contraction (`contraction`), as
`top_k` is: with `random_k`, unbiased and of few entries, g_k would diverge.

Clients that are seldom drawn: the mean is over all clients that have taken part
so far, with the estimate that each left behind. So what the server steps by is
as old as 1 / C rounds on average with a fraction C of the clients in a round. A
client that is never drawn again always counts with its last estimate, and one
that has not been drawn yet does not count. Where updates change faster than
clients come back, `error_feedback` is the safer one.
"""

import jax
from jax import numpy as jnp

from fedjax_sim.aggregation.encodings import Encoding, Kind
from fedjax_sim.aggregation.error_feedback import wrapped
from fedjax_sim.core import precision, trees
from fedjax_sim.core.types import Aggregate, Keys, Message, MessageTransform


def ef21(*compressors: MessageTransform) -> MessageTransform:
  """Sends compressed changes of what the server knows of a client's update.

  Example: `ef21(top_k(0.01))`. Only changes travel, so that what is sent goes
  to zero as updates settle. It needs a mean as the reducer. Algorithms that
  compute with the mean of a cohort refuse it (`needs`).

  Args:
    *compressors: in order, as in `chain`, contractions.

  Raises:
    ValueError: one is no transform of what clients send, or known to be no
      contraction; when run, messages are in groups, as those of ifca are, or
      some entries do not travel.
  """
  inner = wrapped('ef21', compressors)

  def init(message: Message, num_clients: int, key):
    return (inner.init(message, num_clients, key),
            precision.wide_zeros(message.update), _zeros(message.weight))

  def client_init(message: Message):
    return (inner.client_init(message), precision.wide_zeros(message.update),
            _zeros(message.weight))

  def client(message: Message, state, memory, keys: Keys, cohort):
    _check(message)
    inner_memory, estimate, told = memory
    weighted = trees.scale_rows(message.update, message.weight)
    change = precision.narrow(
        jax.tree.map(jnp.subtract, weighted, estimate), message.update)
    sent, inner_memory = inner.client(
        message._replace(update=change), state[0], inner_memory, keys, cohort)
    read = inner.decode(sent.update, state[0], keys.round, change)
    grown = jax.tree.map(jnp.subtract, message.weight, told)
    sums = {'inner': sent.sums, 'grown': grown, 'weight': message.weight}
    one = jax.tree.map(jnp.ones_like, message.weight)
    return sent._replace(weight=one, sums=sums), (
        inner_memory, trees.add(estimate, precision.wide(read)),
        message.weight)

  def server(aggregate: Aggregate, state, key, cohort, sent: Message):
    inner_state, total, weight = state
    changes, inner_state, metrics = inner.server(
        aggregate._replace(sums=aggregate.sums['inner']), inner_state, key,
        cohort, sent)
    total = trees.add(total, trees.scale_rows(
        changes.mean, changes.denominator))
    weight = trees.add(weight, aggregate.sums['grown'])
    return changes._replace(
        mean=trees.divide_rows(total, weight),
        weight=aggregate.sums['weight'], denominator=weight, sums={},
    ), (inner_state, total, weight), metrics

  return MessageTransform(
      'ef21', init, client_init, client, inner.decode, server,
      encodings=(Encoding('ef21', Kind.REPAYS, within=inner.encodings),),
      needs_linear=True)


def _zeros(weight):
  return jax.tree.map(jnp.zeros_like, trees.zeros(weight))


def _check(message: Message) -> None:
  if message.group is not None:
    raise ValueError('ef21 must have one mean of all clients, got messages in '
                     'groups, as those of ifca are.')
  if message.sent is not None:
    raise ValueError('ef21 must be given all entries of an update, got one of '
                     'which some do not travel.')
