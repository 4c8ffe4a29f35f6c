"""How a simulation is put together, from model, algorithm and data."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import numpy as np

from fedjax_sim.core import checks, compilation, contracts, random
from fedjax_sim.core.types import FederatedAlgorithm, Model, PyTree
from fedjax_sim.data import mapped, sampling
from fedjax_sim.data.federated import FederatedData
from fedjax_sim.data.selector import Selector
from fedjax_sim.data.sets.dataset import Dataset
from fedjax_sim.simulation import (
    asynchronous,
    autotune,
    check_algorithm,
    check_examples,
    check_model,
    check_topology,
    check_weights,
    client_losses,
    evaluation,
    in_time,
)
from fedjax_sim.simulation import engine as engine_lib
from fedjax_sim.simulation import plan as plan_lib
from fedjax_sim.simulation.placement import (
    client_owners,
    client_states,
    device_memory,
    sharding,
    stored_states,
    streamed_examples,
)
from fedjax_sim.simulation.program import Program
from fedjax_sim.simulation.rounds import SimulationState
from fedjax_sim.simulation.selecting import Selecting
from fedjax_sim.simulation.simulation import Simulation, first_inputs

# Rounds that one compiled program can take at once. It holds only their plan
# and their metrics, so it is generous; how many run at once is chosen by time.
_CAPACITY = 128
# But a plan has a slot for each of a round's clients on each device.
_PLAN_SLOTS = 2 ** 22
# Where training examples can lie, see `fedjax_sim.simulate`.
EXAMPLES = ('auto', 'owned')


def build(
    model: Model,
    algorithm: FederatedAlgorithm,
    train: FederatedData,
    sampler: sampling.Sampler,
    *,
    test: PyTree | None = None,
    more_sets: Mapping[str, PyTree] | None = None,
    seed: int = 0,
    devices: int | str = 'auto',
    lanes: int | str = 'auto',
    rounds: int | None = None,
    examples: str = 'auto',
    client_state: str = 'auto',
    precision: str = 'auto',
    eval_batch_size: int = 1000,
    systems: in_time.Systems | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> Simulation:
  """Puts a simulation together; see `fedjax_sim.simulate` for the arguments.

  `rounds` tells whether the job is long enough for 'auto' to be measured; None
  is not. `say` is told what takes a while, before it begins.
  """
  compilation.graphs()  # Raises for a word that none of our platforms knows.
  _check_kinds(model, algorithm, train, sampler)
  compilation.keep_programs()
  seed = random.seed('seed', seed)
  checks.one_of('examples', examples, EXAMPLES)
  checks.one_of('client_state', client_state, client_states.CHOICES)
  sampling.check(sampler, train.num_clients)
  if not np.any(train.sizes):
    raise ValueError('train must have at least one example, all of its '
                     f'{train.num_clients} clients are empty.')
  checks.positive_int_or_auto('devices', devices)
  checks.positive_int_or_auto('lanes', lanes, autotune.WORDS)
  sets = _evaluation_sets(test, more_sets or {})
  check_examples.check_examples(model, train, sets)
  check_model.check_model(model, train.examples)
  batched = {name: evaluation.in_batches(tree, eval_batch_size)
             for name, tree in sets.items()}
  evaluate = evaluation.of_sets(model)
  shapes = jax.eval_shape(
      model.init, jax.random.key(0), first_inputs(train))
  local_steps = np.asarray(algorithm.local_steps(train.sizes))
  walked = _on_shapes(check_algorithm.clients, algorithm, train, shapes)
  _check_state_size(walked.first)
  asynchronous.check(algorithm, systems, sampler.max_cohort)
  asynchronous.check_memory(
      model, algorithm, systems, sampler.max_cohort, train)
  check_topology.check(algorithm, train.num_clients, sampler.max_cohort,
                       sampler, systems is not None)
  _on_shapes(check_algorithm.servers, walked, train.num_clients,
             sampler.max_cohort)
  check_weights.check_weights(walked, algorithm, train, sampler)
  timeline, wanted = None, sampler.max_cohort
  may_be_idle = sampler.may_be_idle(train.sizes)
  if sampler.selector is not None:
    check_selector(sampler.selector, train, systems, examples)
  if systems is not None:
    timeline = systems.timeline(algorithm, train, shapes, sampler, seed)
    sampler = timeline.as_sampler()
  selecting = sampler.selector and Selecting(
      selector=sampler.selector, wanted=wanted, sizes=train.sizes,
      timeline=timeline)
  recounts = in_time.recounts(timeline, algorithm, train.examples, shapes)
  if lanes not in autotune.WORDS:  # More would stay empty.
    lanes = min(lanes, sampler.max_cohort)
  states = engine_lib.client_states(walked.first)
  asked = client_losses.asked(model, sampler.selector, recounts)
  # Arrays are put on a number of devices once, whatever the lanes.
  owned = examples == 'owned'
  placed = functools.cache(
      lambda count: _Placed.make(count, train, batched, owned, precision))

  def make(devices: int, lanes: int) -> Simulation:
    placement, held, eval_data = placed(devices)
    state_buffer = None
    if client_states.is_stored(
        client_state, states, train.num_clients, devices):
      state_buffer = stored_states.buffer_size(
          states, train.num_clients, devices, sampler.max_cohort)
      check_topology.check_on_devices(algorithm)
    key = _everywhere(placement)(
        np.asarray(jax.random.key_data(random.root_key(seed))))
    engine = engine_lib.build_engine(
        algorithm, train, shapes, placement=placement,
        examples=placement.split() if owned or held is None
        else placement.everywhere, lanes=lanes,
        cohort_size=sampler.max_cohort, owned=owned, num_states=state_buffer,
        versions=in_time.versions(systems, wanted), may_be_idle=may_be_idle,
        evaluate=evaluate, asked=asked)
    slots = plan_lib.slots_for(
        sampler.max_cohort, devices, engine.owners is not None)
    simulation = Simulation(
        model=model, algorithm=algorithm, train=train, sampler=sampler,
        engine=engine, placement=placement, lanes=lanes, lanes_reason='given',
        program=Program(trace=lambda: simulation.trace(), placement=placement,
                        lanes=lanes, idle=lambda: simulation.idle_arguments()),
        num_blocks=plan_lib.blocks_for(slots, lanes),
        capacity=1 if selecting else max(
            1, min(_CAPACITY, _PLAN_SLOTS // (devices * slots))),
        local_steps=local_steps, seed=seed, key=key, examples=held,
        owned=owned, example_buffer=streamed_examples.buffer_size(
            train, sampler.max_cohort),
        state_buffer=state_buffer, eval_data=eval_data, timeline=timeline,
        selecting=selecting, recounts=recounts,
        measure=client_losses.measuring(
            model, algorithm, train, sampler.selector, placement, lanes))
    return simulation

  if owned and devices == 'auto':  # One device would own all.
    devices = min(len(jax.devices()), train.num_clients)
  chosen, reason = autotune.choose(
      make, sampler.max_cohort, devices, lanes, rounds, say)
  return dataclasses.replace(chosen, lanes_reason=reason)


@functools.cache
def _everywhere(placement: sharding.Placement):
  """A function that makes a key of its data, on all devices of processes."""
  return jax.jit(
      jax.random.wrap_key_data, out_shardings=placement.everywhere)


def _check_kinds(model, algorithm, train, sampler) -> None:
  """ValueError unless the parts of a simulation are what they should be."""
  checks.instance('model', model, Model,
                  'models.mnist_2nn() or models.from_linen(module, loss)')
  checks.instance('algorithm', algorithm, FederatedAlgorithm,
                  'algorithms.fedavg(model, optax.sgd(0.1))')
  checks.instance('train', train, FederatedData,
                  'data.from_clients(...) or data.federate(...)')
  checks.instance('sampler', sampler, sampling.Sampler,
                  'data.sampling.uniform(num_clients, clients_per_round, seed)')


def check_selector(
    selector: Selector, train: FederatedData, systems: in_time.Systems | None,
    examples: str,
) -> None:
  """ValueError for what can't go together with a choice by losses."""
  if systems is None and selector.of_time:
    raise ValueError(
        f'sampler must not have {" or ".join(selector.of_time)} without '
        'systems, since rounds take no time then.')
  if systems is not None and systems.reporting.asynchrony is not None:
    raise ValueError(
        'reporting must have rounds beside a sampler that chooses by losses, '
        'since an asynchronous server plans ahead who begins; got one. '
        "sampler 'uniform' can.")
  if selector.candidates and (examples == 'owned' or mapped.is_mapped(train)):
    raise ValueError(
        'sampler measures losses on examples that must be on all devices, '
        "which they are not with examples='owned' or a mapped federation; "
        "power_of_choice(losses='stale') and oort measure none.")


def _on_shapes(part: Callable, *args):
  """What a part of the algorithm's check on shapes gives.

  Raises:
    ValueError: the algorithm breaks its contract, or fails on the model's
      variables and an example.
  """
  try:
    return part(*args)
  except ValueError as error:
    if error.__cause__ is None and contracts.is_ours(error):
      raise type(error)(*error.args) from None  # Without JAX's frames.
    raise
  except Exception as error:  # Of the user's functions too.
    raise ValueError(
        'algorithm can\'t make a round with this model and these examples: '
        f'{type(error).__name__}: {" ".join(str(error).split())}') from error


def _check_state_size(state: SimulationState) -> None:
  """ValueError if the first state is larger than the memory."""
  need = sum(x.size * x.dtype.itemsize if hasattr(x.dtype, 'itemsize') else 0
             for x in jax.tree.leaves(state))
  have = device_memory.available(jax.local_devices()[0])
  if have is not None and need > have:
    raise ValueError(
        f'algorithm has a state of {need / 1e9:.1f} GB with this model, the '
        f'device has {have / 1e9:.1f} GB of memory.')


def _evaluation_sets(
    test: PyTree | None, more: Mapping[str, PyTree]
) -> dict[str, PyTree]:
  """All of them by name."""
  taken = [name for name in ('train', 'test') if name in more]
  if taken:
    raise ValueError(f'more_sets must have other names than train and test, '
                     f'got {", ".join(more)}.')
  sets = dict(more) if test is None else {'test': test, **more}
  for name, value in sets.items():
    if isinstance(value, Dataset):
      raise ValueError(f'{name} must be examples, such as dataset.test, got a '
                       'whole Dataset.')
  return {name: check_examples.as_set(name, value)
          for name, value in sets.items()}


class _Placed(NamedTuple):
  """What lies on the devices and doesn't change."""

  placement: sharding.Placement
  examples: PyTree | None
  eval_data: dict[str, evaluation.EvalData]

  @classmethod
  def make(
      cls, devices: int, train, batched, owned, precision
  ) -> '_Placed':
    placement = sharding.place(devices, precision)
    batched = sharding.to_devices(
        {name: evaluation.fill_up(data, devices)
         for name, data in batched.items()}, placement.split())
    if owned:
      examples = client_owners.to_owners(train, placement)
    elif mapped.is_mapped(train):  # Taken to be too large for the devices.
      examples = None
    else:
      examples = sharding.to_devices(train.examples, placement.everywhere)
    return cls(placement, examples, batched)
