"""`for_each_client` as FedJAX 0.0.17 has it, with clients side by side.

FedJAX calls a compiled step from Python for every batch of every client. Here
a block of clients is computed by one compiled loop over all of their batches,
in lanes that narrow as clients finish (`core.loops`). Batches go in as they
are: none is padded, so steps need no mask that they would not need there.

For whole rounds in one program, and on several devices, there is
`algorithms.from_steps`, which takes the same three functions.
"""

import functools
import itertools
from collections.abc import Callable, Hashable, Iterable, Iterator
from typing import NamedTuple

import jax
import numpy as np
from jax import numpy as jnp

from fedjax_sim.core import argument_kinds, checks, loops
from fedjax_sim.core.types import PyTree
from fedjax_sim.fedjax import client_steps

# Buffers of step results are for at least so many steps: fewer programs.
_LEAST_RESULTS = 8

Client = tuple[Hashable, Iterable[PyTree], PyTree]


@argument_kinds.checked
def for_each_client(
    client_init: client_steps.ClientInit,
    client_step: client_steps.ClientStep,
    client_final: client_steps.ClientFinal = lambda shared_input, state: state,
    with_step_result: bool = False,
    *,
    lanes: int = 4,
) -> Callable[[PyTree, Iterable[Client]], Iterator[tuple]]:
  """Makes a function that does some work for each of many clients.

  Args:
    client_init: `(shared_input, client_input) -> step state`, once a client.
    client_step: `(step state, batch) -> step state`, for each batch; with
      `with_step_result` it returns (step state, step result).
    client_final: `(shared_input, step state) -> output`, once a client.
    with_step_result: see `client_step`.
    lanes: W, clients computed side by side; memory grows with it, and results
      don't depend on it, up to the order of summation.

  Returns:
    `(shared_input, clients) -> iterator`. `clients` yields (client id, batches,
    client input): batches are an iterable of PyTrees of arrays, of any shapes,
    client input a PyTree of arrays. W clients are taken at a time. The iterator
    yields (client id, output), or (client id, output, list of step results, in
    NumPy), in the order of `clients`. A client without batches gives
    `client_final` of its first state.

  Raises:
    ValueError: `lanes` is no whole number >= 1. While it runs: a step returns a
      state of another structure or shape than it takes.
  """
  checks.positive_int('lanes', lanes)
  programs = _compiled(
      client_init, client_steps.with_result(client_step, with_step_result),
      client_final, lanes)

  def run(shared_input, clients):
    for block in _blocks(clients, lanes):
      outputs, results = _run_block(
          programs, shared_input, block, lanes, with_step_result)
      for lane, (client_id, _, _) in enumerate(block):
        if with_step_result:
          yield client_id, outputs[lane], results[lane]
        else:
          yield client_id, outputs[lane]

  return run


class _Programs(NamedTuple):
  """What is compiled, for W lanes.

  Attributes:
    start: `(shared_input, client inputs [W, ...]) -> states [W, ...]`.
    advance: `(states, batches [P, ...], first int32 [W], count int32 [W], most)
      -> (states, results [W, most, ...])`: takes lane i through the batches
      from first[i], count[i] <= most of them. The states are donated.
    finish: `(shared_input, states) -> list of W outputs`.
  """

  start: Callable
  advance: Callable
  finish: Callable


def _compiled(client_init, client_step, client_final, lanes) -> _Programs:
  over_lanes = functools.partial(jax.vmap, axis_size=lanes)

  @jax.jit
  def start(shared_input, client_inputs):
    return over_lanes(lambda client_input: client_init(
        shared_input, client_input))(client_inputs)

  @functools.partial(jax.jit, donate_argnums=0, static_argnums=4)
  def advance(states, batches, first, count, most):
    # Lanes narrow to a prefix, so those with most to do come first.
    order = jnp.argsort(-count)
    take = lambda tree, rows: jax.tree.map(lambda x: x[rows], tree)
    done = over_lanes(lambda *lane: _advance_lane(
        client_step, batches, most, *lane))(*take(
            (states, first, count), order))
    return take(done, jnp.argsort(order))

  @jax.jit
  def finish(shared_input, states):
    outputs = over_lanes(
        lambda state: client_final(shared_input, state))(states)
    leaves, treedef = jax.tree.flatten(outputs)
    return [treedef.unflatten([x[i] for x in leaves]) for i in range(lanes)]

  return _Programs(start, advance, finish)


def _advance_lane(client_step, batches, most, state, first, count):
  """One lane's part of `_Programs.advance`."""
  batch = lambda t: jax.tree.map(
      lambda x: jnp.asarray(x)[first + t], batches)
  after, _ = jax.eval_shape(client_step, state, batch(0))
  state = client_steps.widened(state, after)
  _, result = jax.eval_shape(client_step, state, batch(0))
  results = jax.tree.map(lambda x: jnp.zeros((most, *x.shape), x.dtype), result)

  def body(t, carry):
    state, results = carry
    state, result = client_step(state, batch(t))
    return state, jax.tree.map(
        lambda buffer, x: buffer.at[t].set(x), results, result)

  return loops.fori_lanes(count, body, (state, results))


def _blocks(clients: Iterable[Client], lanes: int) -> Iterator[list[Client]]:
  """Up to W clients at a time whose inputs can be stacked."""
  for _, alike in itertools.groupby(clients, lambda c: _signature(c[2])):
    while block := list(itertools.islice(alike, lanes)):
      yield block


def _run_block(
    programs, shared_input, block: list[Client], lanes: int, has_results: bool
):
  """(outputs, lists of step results) of the lanes; empty ones come last."""
  inputs = [client_input for _, _, client_input in block]
  inputs += [inputs[0]] * (lanes - len(inputs))
  states = programs.start(
      shared_input, jax.tree.map(lambda *x: jnp.stack(x), *inputs))
  results = [[] for _ in range(lanes)]
  for runs in _segments([list(batches) for _, batches, _ in block]):
    counts = [len(run) for run in runs] + [0] * (lanes - len(runs))
    states, steps_done = programs.advance(
        states, _stacked(list(itertools.chain(*runs)), lanes),
        np.cumsum([0, *counts[:-1]], dtype=np.int32),
        np.array(counts, np.int32),
        max(_power_of_two(max(counts)), _LEAST_RESULTS) if has_results else 0)
    if has_results:
      steps_done = jax.device_get(steps_done)
      for lane, count in enumerate(counts):
        results[lane] += [
            jax.tree.map(lambda x, place=(lane, t): x[place], steps_done)
            for t in range(count)]
  return programs.finish(shared_input, states), results


def _segments(queues: list[list[PyTree]]) -> Iterator[list[list[PyTree]]]:
  """Cuts clients' batches into runs of one shape, in each client's order.

  Mostly there are full batches, which are the first segment; what is left over
  at the end is a segment for each size.
  """
  signed = [[(_signature(b), b) for b in queue] for queue in queues]
  while any(signed):
    shape = next(queue for queue in signed if queue)[0][0]
    runs = [list(itertools.takewhile(lambda b: b[0] == shape, queue))  # noqa: B023
            for queue in signed]
    signed = [queue[len(run):] for queue, run in zip(signed, runs, strict=True)]
    yield [[batch for _, batch in run] for run in runs]


def _stacked(batches: list[PyTree], least: int) -> PyTree:
  """[P, ...], P a power of two, so that few programs serve all blocks."""
  total = _power_of_two(max(len(batches), least))
  padding = [batches[0]] * (total - len(batches))
  return jax.tree.map(lambda *x: np.stack(x), *batches, *padding)


def _power_of_two(number: int) -> int:
  """The least that is not below `number`."""
  return 1 << (number - 1).bit_length()


def _signature(tree: PyTree) -> tuple:
  """Equal for trees that can be stacked."""
  leaves, treedef = jax.tree.flatten(tree)
  return treedef, *((np.shape(x), getattr(x, 'dtype', type(x)))
                    for x in leaves)
