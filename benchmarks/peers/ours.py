"""fedjax_sim, as a user of `fedjax_sim.simulate` gets it.

Timed: all of `drive` for a turn's rounds, that is, planning on
the host, one dispatch, scaling of pixels (the examples are uint8 on the
device), local SGD, the average, sums of the training loss, the check for
divergence, and the records. Not timed: compiling, and the test set.

Options that `simulator.build` takes are handed to it; `convolution` is 'native'
for XLA's own or 'patches' for one product.

With the option `processes` there are so many, each with its part of the cores:
the one that speed.py has started starts the others, which do what it does.
"""

import contextlib
import os
import socket
import subprocess
import sys
import time

import jax
import optax

import fedjax_sim
from benchmarks.peers.link import Link
from fedjax_sim import algorithms, data, models
from fedjax_sim.data import sampling
from fedjax_sim.experiment import processes
from fedjax_sim.models import convolution
from fedjax_sim.simulation import build as build_lib
from fedjax_sim.simulation.drive import drive
from fedjax_sim.simulation.placement import sharding
from fedjax_sim.simulation.simulation import Simulation

# As in a long job, for which devices and lanes are measured.
_MANY = 10 ** 9
_OWN_OPTIONS = ('processes', 'convolution', 'compile_lock')

MODELS = {
    '2nn': lambda: models.mnist_2nn(),
    'cnn': lambda: models.mnist_cnn(),
    'lstm': lambda: models.shakespeare_lstm(),
}


def build(link: Link, model) -> Simulation:
  """The simulation, whose cohorts are those of all contenders."""
  task = link.task
  algorithm = algorithms.fedavg(
      model, optax.sgd(task.rate), epochs=task.epochs,
      batch_size=task.batch_size)
  clients = data.from_clients(
      [{'x': x, 'y': y} for x, y in zip(link.job.x, link.job.y, strict=True)])
  sampler = sampling.Sampler(
      lambda r: link.job.cohorts[r], task.clients, clients.num_clients)
  options = {k: v for k, v in link.job.options.items()
             if k not in _OWN_OPTIONS}
  return build_lib.build(
      model, algorithm, clients, sampler, rounds=_MANY,
      precision=task.precision, **options)


def join(count: int) -> None:
  """Starts the other processes and joins them, or joins as one of them."""
  cores = sorted(os.sched_getaffinity(0))
  index, coordinator = 0, None
  if len(sys.argv) > 2:
    index, coordinator = int(sys.argv[2]), sys.argv[3]
  else:
    with socket.socket() as listener:
      listener.bind(('127.0.0.1', 0))
      coordinator = f'127.0.0.1:{listener.getsockname()[1]}'
    others = [
        subprocess.Popen(
            [sys.executable, '-m', 'benchmarks.peers.ours', sys.argv[1],
             str(i), coordinator], stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL) for i in range(1, count)]
    for i, process in enumerate(others, 1):
      os.sched_setaffinity(process.pid, cores[i::count])
    os.sched_setaffinity(0, cores[::count])
  processes.join(coordinator, count, index)


def configure(options: dict) -> None:
  """Applies the options that are ours and no argument of a simulation."""
  if options.get('convolution') == 'native':
    convolution.conv_general_dilated = jax.lax.conv_general_dilated
  if options.get('convolution') == 'patches':
    convolution._MIN_ROW_INPUTS = 10**9


def main() -> None:
  link = Link()
  count = link.job.options.get('processes', 1)
  if count > 1:
    join(count)
  fedjax_sim.use_all_cores()
  configure(link.job.options)
  model = MODELS[link.task.model]()
  simulation = build(link, model)
  state = simulation.init()
  with link.compiling():
    _ = simulation.program.compiled
  jax.config.update('jax_default_matmul_precision', link.task.precision)
  apply = jax.jit(lambda variables, x: model.run(
      variables, x, key=jax.random.key(0), train=False, mask=None)[0])
  link.ready(jax.devices()[0].device_kind, 'jax', 'jaxlib', 'flax', 'optax',
             devices=simulation.placement.size, lanes=simulation.lanes,
             chosen=simulation.lanes_reason, graphs=simulation.program.graphs)

  def train(cohorts):
    nonlocal state
    stop = int(state.server.round) + len(cohorts)
    sharding.agree(stop)
    begun = time.perf_counter()
    with (jax.profiler.trace(link.trace) if link.trace
          else contextlib.nullcontext()):
      (last,) = drive(
          simulation, state, stop, evaluate=lambda r: False,
          rounds_per_dispatch=len(cohorts))
      state = last.state
      jax.block_until_ready(state)
    return time.perf_counter() - begun

  if jax.process_index():
    follow(simulation, state)
    return
  link.serve(train, lambda x: apply(
      sharding.gather(state.server.variables), x))
  sharding.agree(-1)  # Not waited for: at their exit they wait for this one.


def follow(simulation, state) -> None:
  """Does what the first process is asked for."""
  while (stop := int(sharding.agree(-1)[0])) >= 0:
    (last,) = drive(
        simulation, state, stop, evaluate=lambda r: False,
        rounds_per_dispatch=stop - int(state.server.round))
    state = last.state


if __name__ == '__main__':
  main()
