"""fedjax_sim, as a user of `fedjax_sim.simulator` gets it.

Timed: all of `Simulation.dispatches` for a turn's rounds, that is, planning on
the host, one dispatch, scaling of pixels (the examples are uint8 on the
device), local SGD, the average, sums of the training loss, the check for
divergence, and the rows of metrics. Not timed: compiling, and the test set.
"""

import time

import jax
import optax

import fedjax_sim
from benchmarks.peers.link import Link
from fedjax_sim import algorithms, data, models, simulator
from fedjax_sim.data import sampling

MODELS = {
    '2nn': lambda: models.mnist_2nn(),
    'cnn': lambda: models.mnist_cnn(),
    'lstm': lambda: models.shakespeare_lstm(),
}


def build(link: Link, model) -> simulator.Simulation:
  """The simulation, whose cohorts are those of all contenders."""
  task = link.task
  algorithm = algorithms.fedavg(
      model, optax.sgd(task.rate), epochs=task.epochs,
      batch_size=task.batch_size)
  clients = data.from_clients(
      [{'x': x, 'y': y} for x, y in zip(link.job.x, link.job.y, strict=True)])
  sampler = sampling.Sampler(
      lambda r: link.job.cohorts[r], task.clients, clients.num_clients)
  return simulator.build(model, algorithm, clients, sampler, **link.job.options)


def main() -> None:
  link = Link()
  fedjax_sim.use_all_cores()
  model = MODELS[link.task.model]()
  simulation = build(link, model)
  state = simulation.init()
  program = simulation.compile(state)
  apply = jax.jit(lambda variables, x: model.apply(
      *variables, x, key=jax.random.key(0), train=False, mask=None)[0])
  link.ready(jax.devices()[0].device_kind, 'jax', 'jaxlib', 'flax', 'optax',
             devices=simulation.placement.size, lanes=simulation.lanes,
             chosen=simulation.lanes_reason)

  def train(cohorts):
    nonlocal state
    stop = int(state.server.round) + len(cohorts)
    begun = time.perf_counter()
    ((state, _),) = simulation.dispatches(
        program, state, stop, evaluate=lambda r: False,
        rounds_per_dispatch=len(cohorts))
    jax.block_until_ready(state)
    return time.perf_counter() - begun

  link.serve(train, lambda x: apply(state.server.variables, x))


if __name__ == '__main__':
  main()
