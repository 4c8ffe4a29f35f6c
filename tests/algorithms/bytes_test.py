"""The bytes of every algorithm's records, against messages added up slowly.

Each message that arrives is written by coders in NumPy, and its bits counted
one client after another. With a client whose message is lost, and one without
examples.
"""

import dataclasses

import jax
import numpy as np
import pytest

from fedjax_sim import aggregation
from fedjax_sim.core import bit_streams
from fedjax_sim.core.types import Aggregator
from fedjax_sim.data import sampling
from fedjax_sim.simulation import build as build_lib
from fedjax_sim.simulation import exchange, traffic
from fedjax_sim.simulation.drive import drive
from fedjax_sim.simulation.simulation import Simulation
from tests import toys
from tests.algorithms.cases import AGGREGATED, some_always, with_aggregator

MODEL = toys.softmax_model()
DATA = toys.softmax_data([5, 1, 11, 8, 0])
LOST = 3
COHORTS = [[0, 3, 1, 2], [2, 4], [3, 1, 0]]


class Lossy(Simulation):
  """The messages of client LOST don't arrive."""

  def plan(self, start, evaluate):
    plan = super().plan(start, evaluate)
    arrives = plan.slots.client != LOST
    return plan._replace(slots=plan.slots._replace(arrives=arrives))


def listening(transform, heard):
  """The transform; every message that it makes is also told to the host."""
  def client(message, state, memory, keys, cohort):
    before = message
    message, memory = transform.client(message, state, memory, keys, cohort)
    jax.debug.callback(
        lambda *one: heard.append(one), message.present, before.update,
        message.update, message.sent, message.weight, message.sums,
        message.group)
    return message, memory
  return transform._replace(client=client)


def run(algorithm):
  """The records of COHORTS, as the loop completes them."""
  sampler = sampling.Sampler(lambda r: np.array(COHORTS[r]), 4, 5)
  built = build_lib.build(MODEL, algorithm, DATA, sampler, lanes=2, devices=1)
  fields = {f.name: getattr(built, f.name) for f in dataclasses.fields(built)}
  program = dataclasses.replace(built.program, trace=lambda: made.trace())
  made = Lossy(**fields | {'program': program})
  records = [record for progress in drive(made, made.init(), len(COHORTS))
             for record in progress.records[0]]
  jax.effects_barrier()
  for record in records:
    made.bytes_per_client().add(record)
  return records


def nbytes(tree):
  return sum(np.asarray(x).nbytes for x in jax.tree.leaves(tree))


def written(update, sent):
  """The bits of where the entries are that travel, and of these."""
  values, mask = (np.concatenate([np.ravel(x) for x in jax.tree.leaves(tree)])
                  for tree in (update, sent))
  return len(bit_streams.positions(mask)) + len(
      bit_streams.floats(values[mask]))


def hearing(algorithm, sizes):
  """The algorithm; what its last client function is sent tells its bytes."""
  def client(server, *rest):
    sizes.append(sum(x.size * x.dtype.itemsize
                     for x in jax.tree.leaves(server)))
    return algorithm.client(server, *rest)
  return algorithm._replace(client=client)


@pytest.mark.parametrize('name', some_always(AGGREGATED))
def test_bytes_are_the_sum_over_clients(name):
  heard, received = [], []
  aggregator = Aggregator(listening(aggregation.chain(
      aggregation.error_feedback(aggregation.top_k(0.3))), heard),
                          aggregation.weighted_mean())
  algorithm = hearing(with_aggregator(name, MODEL, aggregator), received)
  records = run(algorithm)
  started = [len(set(cohort) - {4}) for cohort in COHORTS]
  arrived = [len(set(cohort) - {4, LOST}) for cohort in COHORTS]
  phases = len(exchange.phases(algorithm))
  arriving = [one for one in heard if one[0]]
  assert len(arriving) == phases * sum(arrived)

  bits = plain = 0
  for _, before, after, sent, weight, sums, group in arriving:
    beside = 8 * nbytes((weight, sums)) + 32 * (group is not None)
    bits += written(after, sent) + beside
    plain += 8 * nbytes(before) + beside
  assert 8 * sum(record['bytes_up'] for record in records) == bits < plain

  # Of the same messages, without compression.
  alone = traffic.per_client(
      with_aggregator(name, MODEL, None), DATA.examples,
      MODEL.init(jax.random.key(0), None))
  uncompressed = [
      {'round': i, 'clients': a, 'started': s}
      for i, (a, s) in enumerate(zip(arrived, started, strict=True), 1)]
  for record in uncompressed:
    alone.add(record)
  assert 8 * sum(record['bytes_up'] for record in uncompressed) == plain
  # Who drops has received.
  for some in (records, uncompressed):
    assert [record['clients'] for record in some] == arrived
    assert [record['bytes_down'] for record in some] == [
        received[0] * count for count in started]
