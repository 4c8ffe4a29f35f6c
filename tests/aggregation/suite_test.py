"""What every transform and every reducer promises, inside real rounds.

A run on one device, a client at a time, is compared with one on two devices
with two lanes each, in which two more clients take part: the messages of one
are lost, and the other has no examples. So all of it may depend neither on
lanes, blocks, devices and empty slots nor on who does not count.
"""

import dataclasses

import jax
import numpy as np
import optax
import pytest

from fedjax_sim import aggregation, algorithms
from fedjax_sim.data import sampling
from fedjax_sim.data.federated import federate
from fedjax_sim.simulation import build as build_lib
from fedjax_sim.simulation.drive import drive
from fedjax_sim.simulation.simulation import Simulation
from tests import toys
from tests.aggregation.parts import (
    AGGREGATORS,
    ALGORITHMS,
    CODES,
    padded_signs,
)

MODEL = toys.curved_model()
SIZES = (3, 1, 5, 4, 2, 0)
RNG = np.random.default_rng(0)
DATA = federate({'x': RNG.normal(size=(15, 2)).astype(np.float32),
                 'y': RNG.uniform(0.5, 3, 15).astype(np.float32)},
                toys.partition_of(SIZES), allow_empty=True)
LOST, EMPTY = 4, 5
COHORTS = [[2, 0, 1], [3], [1, 3, 0, 2]]


class Lossy(Simulation):
  """The messages of client LOST don't arrive."""

  def plan(self, start, evaluate):
    plan = super().plan(start, evaluate)
    arrives = plan.slots.client != LOST
    return plan._replace(slots=plan.slots._replace(arrives=arrives))


def simulation(algorithm, cohorts, devices, lanes, kind=Simulation, **kwargs):
  sampler = sampling.Sampler(
      lambda r: np.array(cohorts[r]), max(map(len, cohorts)), len(SIZES))
  built = build_lib.build(
      MODEL, algorithm, DATA, sampler, devices=devices, lanes=lanes, **kwargs)
  fields = {f.name: getattr(built, f.name) for f in dataclasses.fields(built)}
  program = dataclasses.replace(built.program, trace=lambda: made.trace())
  made = kind(**fields | {'program': program})
  return made


def run(*args, **kwargs):
  """(states before and after all cohorts, on the host, and the records)."""
  one, records = simulation(*args, **kwargs), []
  initial = one.init()
  start = jax.device_get(initial)
  for progress in drive(one, initial, len(args[1])):
    records += progress.records[0]
  return start, jax.device_get(progress.state), records


def assert_close(got, want):
  jax.tree.map(lambda a, b: np.testing.assert_allclose(
      a, b, rtol=1e-4, atol=2e-5), got, want)


def is_slow(part, name):
  return part in CODES or (
      name != 'mimelite' and part not in ('chain', 'buffered'))


# With MimeLite each part is tried. Two are with all the others too, and those
# that keep something or draw for all with one. SCAFFOLD takes few of them.
OTHERS = ['mime', 'ifca']
SCAFFOLD = ('error_feedback', 'fixed_mean')
KEEPING = ('adaptive_clip', 'error_feedback', 'ef21', 'momentum', 'noise',
           'masked_mean')


def is_tried(number, part, name):
  if part == 'private_mean':  # It takes messages without sums or groups.
    return name == 'mime'
  if name == 'scaffold':
    return part in SCAFFOLD
  return (name == 'mimelite' or part in ('chain', 'buffered')
          or part in KEEPING and name == OTHERS[number % len(OTHERS)])


PAIRS = [
    pytest.param(part, name, marks=pytest.mark.slow if is_slow(
        part, name) else [])
    for number, part in enumerate(AGGREGATORS) for name in ALGORITHMS
    if is_tried(number, part, name)
    # Codes of values know no phases or groups.
    and (part not in CODES or name == 'mimelite')
    # Masks of different groups can't cancel, EF21 has one mean; Mime's vectors
    # have no params.
    and (part, name) not in (
        ('masked_mean', 'ifca'), ('ef21', 'ifca'), ('on', 'mime'))]


@pytest.mark.parametrize('part, name', PAIRS)
def test_lanes_devices_and_lost_messages_do_not_matter(part, name):
  algorithm = ALGORITHMS[name](MODEL, AGGREGATORS[part]())
  start, want, records = run(algorithm, COHORTS, 1, 1)
  cohorts = [[LOST, *cohort, EMPTY] for cohort in COHORTS]
  _, got, others = run(algorithm, cohorts, 2, 2, Lossy)
  states = lambda state: jax.tree.map(
      lambda x: x[:len(SIZES)], (state.clients, state.transforms))
  assert_close((got.server, got.aggregator), (want.server, want.aggregator))
  assert_close(states(got), states(want))
  lost = lambda state: jax.tree.map(
      lambda x: x[[LOST, EMPTY]], (state.clients, state.transforms))
  jax.tree.map(np.testing.assert_array_equal, lost(got), lost(start))
  for one, other in zip(records, others, strict=True):
    assert other['clients'] == one['clients'] == other['started'] - 1
    for key in one.keys() - {
        'round', 'devices', 'lanes', 'seconds', 'imbalance', 'padded_steps',
        'train/loss'}:
      assert other[key] == pytest.approx(one[key], rel=1e-3, abs=1e-5)


def test_metrics_of_parts_reach_the_record():
  aggregator = aggregation.aggregator(
      aggregation.adaptive_clip(1.0, quantile=0.5, learning_rate=0.2),
      aggregation.adaptive_clip(1e-6), reduce=AGGREGATORS['momentum']().reducer)
  algorithm = ALGORITHMS['mimelite'](MODEL, aggregator)
  *_, records = run(algorithm, COHORTS, 1, 2)
  assert records[0]['adaptive_clip/norm'] == 1.0
  below = records[0]['adaptive_clip/below']
  assert records[1]['adaptive_clip/norm'] == pytest.approx(
      np.exp(-0.2 * (below - 0.5)))
  assert records[0]['adaptive_clip 2/below'] == 0
  assert 0 < records[0]['reducer/length'] < 1e-5


def test_bytes_that_vary_are_in_the_record_and_others_are_known():
  algorithm = algorithms.fedavg(MODEL, optax.sgd(0.05), aggregator=AGGREGATORS[
      'random_mask']())
  one = simulation(algorithm, COHORTS, 1, 2)
  assert one.bytes_per_client().up == 0
  *_, records = run(algorithm, COHORTS, 1, 2)
  # Two coordinates of four bytes at most, and the weight.
  for record in records:
    assert record['bytes_up'] % 4 == 0
    assert 4 <= record['bytes_up'] / record['clients'] <= 12
  padded = algorithms.fedavg(
      MODEL, optax.sgd(0.05), aggregator=aggregation.aggregator(padded_signs()))
  assert simulation(padded, COHORTS, 1, 2).bytes_per_client().up == 4 * 8 + 4


@pytest.mark.parametrize('part', ['error_feedback', 'median'])
def test_nothing_is_traced_in_later_rounds(part):
  """As often for six rounds, one a dispatch, as for one."""
  def traces(rounds):
    count = 0

    def loss(outputs, examples):
      nonlocal count
      count += 1
      return MODEL.loss(outputs, examples)

    model = MODEL._replace(loss=loss)
    algorithm = ALGORITHMS['mimelite'](model, AGGREGATORS[part]())
    one = simulation(algorithm, [[0, 1], [2], [3, 0]] * 2, 1, 2)
    for _ in drive(one, one.init(), rounds, rounds_per_dispatch=1):
      pass
    return count

  assert traces(6) == traces(1) > 0
