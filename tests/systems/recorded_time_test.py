"""Simulated time by what messages have really cost."""

import jax
import numpy as np
import optax
import pytest
from jax import numpy as jnp

import fedjax_sim
from fedjax_sim import aggregation, algorithms, systems
from fedjax_sim.core import costs
from fedjax_sim.data import sampling
from fedjax_sim.simulation import build as build_lib
from fedjax_sim.simulation import in_time
from fedjax_sim.simulation.drive import drive
from tests import toys

MODEL = toys.softmax_model()
SIZES = (5, 8, 3, 9, 4, 7, 2, 6)
DATA = toys.softmax_data(SIZES)
NUMBERS = 15  # Of the model.


def varying(down):
  """A transform that leaves messages as they are, at bits that vary."""

  def client(message, state, memory, keys, cohort):
    del state, keys, cohort
    bits = jax.tree.map(
        lambda x: jnp.float32(16 + 8 * message.slot.client), message.update)
    cost = costs.Cost(bits, jax.tree.map(lambda x: 0, message.update))
    return message._replace(cost=cost), memory

  def broadcast(message, state, key):
    del key
    return message, state, jnp.float32(100)

  return aggregation.transform(
      'varying', client=client, broadcast=broadcast if down else None)


def fedavg(rate=0.1, coded=None):
  coded = varying(False) if coded is None else coded
  return algorithms.fedavg(
      MODEL, optax.sgd(rate), batch_size=4,
      aggregator=aggregation.aggregator(coded))


def simulation(population, reporting, cohort, algorithm):
  return build_lib.build(
      MODEL, algorithm, DATA, sampling.uniform(len(SIZES), cohort, 0),
      devices=1, lanes=2,
      systems=in_time.Systems(population, reporting or systems.window()))


def driven(one, rounds):
  """(records with their bytes, what each round told of its slots, plans)."""
  state, found = one.init(), []
  for r in range(rounds):
    window = one.window(r, r + 1, state=state)
    advanced, outputs = one.advance(state, window, [0], 0, 1)
    outputs = jax.device_get(outputs)
    of_round = jax.tree.map(lambda x: x[0], outputs)
    state, notes = one.commit(state, advanced, window, [0], 0, 1, outputs)
    found.append((notes[0][0], of_round, window.plan.slots))
  return state, found


@pytest.mark.parametrize('coded', [
    varying(True), pytest.param(aggregation.chain(
        aggregation.qsgd(2), aggregation.downlink(aggregation.qsgd(2))),
                                marks=pytest.mark.slow)],
    ids=['toy', 'qsgd'])
def test_a_round_takes_as_long_as_its_real_messages(coded):
  """One client a round, so that its bytes are those of the record."""
  one = simulation(
      systems.identical(0.5, 2e3, 1e3), None, 1,
      fedavg(coded=coded))
  ended = 0.0
  for progress in drive(one, one.init(), 6):
    for record in progress.records[0]:
      one.bytes_per_client().add(record)
      in_time.add_lost(record)
      (client,) = one.sampler.sample(record['round'] - 1)
      want = (8 * record['bytes_down'] / 2e3 + 0.5 * np.ceil(SIZES[client] / 4)
              + 8 * record['bytes_up'] / 1e3)
      assert record['duration'] == pytest.approx(want, rel=1e-12)
      ended += record['duration']
      assert record['simulated_seconds'] == ended
      known = one.timeline.round(record['round'] - 1)
      assert record['duration'] < known.seconds
      assert known.seconds == pytest.approx(
          want + (32 * NUMBERS + 32 - 8 * record['bytes_up']) / 1e3
          + (32 * NUMBERS + 32 - 8 * record['bytes_down']) / 2e3)


def test_it_ends_with_the_last_of_those_who_were_waited_for():
  """Over-selection and a deadline: who arrives stays as it was decided."""
  population = systems.lognormal(0.5, 1e3, 4e2, speed_ratio=5.0)
  one = simulation(population, systems.window(over_selection=1.5), 4, fedavg())
  known, profiles = one.timeline, one.timeline.profiles
  _, found = driven(one, 5)
  for r, (note, outputs, slots) in enumerate(found):
    held = known.round(r)
    seconds, total = [], 0
    for bits, client, place in zip(
        outputs.told.bits.reshape(-1, 2), slots.client[0].ravel(),
        slots.place[0].ravel(), strict=True):
      sent = int(bits[0]) * 1024 + int(bits[1])
      if not sent:
        continue
      assert held.arrives[place] and held.cohort[place] == client
      total += sent
      seconds.append(
          known.costs.down_bits / profiles.down_bps[client]
          + known.costs.steps[client] * profiles.step_seconds[client]
          + sent / profiles.up_bps[client])
    assert len(seconds) == 4
    assert total == int(outputs.bits_up[0]) * 1024 + int(outputs.bits_up[1])
    assert note['duration'] == pytest.approx(max(seconds), rel=1e-12)
    assert note['duration'] < held.seconds
  # A deadline that not all make is the round's end, whatever bits cost.
  late = simulation(population, systems.window(
      float(np.quantile(known.costs.steps * profiles.step_seconds, 0.8))),
                    4, fedavg())
  _, found = driven(late, 5)
  ends = [(note['duration'], late.timeline.round(r))
          for r, (note, _, _) in enumerate(found)]
  missed = [end for end, held in ends if not held.arrives.all()]
  assert missed and set(missed) == {late.timeline.reporting.deadline}


OPTIONS = dict(
    rounds=4, clients_per_round=3,
    systems=systems.lognormal(
        available=systems.sporadic(0.9), failures=systems.failures(0.1)),
    reporting=systems.window(over_selection=1.4))
TOLD = ('simulated_seconds', 'duration', 'bytes_up', 'bytes_down', 'started')


def test_a_run_that_goes_on_tells_the_same_time(tmp_path):
  options = OPTIONS | dict(devices=1, lanes=2, checkpoint_seconds=0.0)
  whole = fedjax_sim.simulate(MODEL, fedavg(), DATA, **options)
  fedjax_sim.simulate(MODEL, fedavg(), DATA, workdir=tmp_path,
                      **options | {'rounds': 2})
  rest = fedjax_sim.simulate(
      MODEL, fedavg(), DATA, resume_from=tmp_path, **options)
  times = lambda result: [[one[name] for name in TOLD]
                          for one in result.records]
  assert times(rest) == times(whole)


def test_members_of_a_sweep_tell_their_own_time():
  found = fedjax_sim.sweep(
      MODEL, fedavg, DATA, seeds=[0, 1], learning_rates=[0.1], **OPTIONS)
  alone = fedjax_sim.simulate(
      MODEL, fedavg(), DATA, seed=1, devices=1, lanes=1, **OPTIONS)
  for name in TOLD:
    assert [one[name] for one in found[1, 0.1].records] == pytest.approx(
        [one[name] for one in alone.records])


def test_where_bits_are_fixed_nothing_is_told():
  plain = algorithms.fedavg(MODEL, optax.sgd(0.1), batch_size=4)
  one = simulation(systems.lognormal(), None, 3, plain)
  assert one.init().host == () and not one.recounts
  assert not jax.tree.leaves(one.trace().out_info[1].told)
