"""What is measured on a GPU, the most valuable first, and what is predicted.

The predictions were written down before anything ran on a GPU. Ours and plain
JAX's assume 1.8 us a kernel and 3 TB/s, for the kernels and bytes of a step
that XLA compiles for an H100; PyTorch's assume about 8 us a kernel.
"""

from typing import Any, NamedTuple

from benchmarks.contenders import CONTENDERS, Contender
from benchmarks.tasks import TASKS, Task
from fedjax_sim.core import compilation


class Block(NamedTuple):
  """Contenders that take turns on one task.

  Attributes:
    name: of the block.
    title: heads its part of the table.
    task: with its numbers of clients and examples.
    contenders: the first is what ratios refer to.
    seconds: the block's limit, from starting the processes to the last turn.
    predicted: contender -> milliseconds a round.
  """

  name: str
  title: str
  task: Task
  contenders: tuple[Contender, ...]
  seconds: float
  predicted: dict[str, float]


def _ours(name: str = 'ours', **options: Any) -> Contender:
  return CONTENDERS['ours']._replace(name=name, options=options)


def _without(name: str, graphs: str, **options: Any) -> Contender:
  """Ours with less in CUDA graphs."""
  return _ours(name, **options)._replace(
      variables={compilation.GRAPHS_VARIABLE: graphs})


def _with(contender: Contender, **options: Any) -> Contender:
  return contender._replace(options=contender.options | options)


def _peers(*names: str) -> tuple[Contender, ...]:
  return tuple(CONTENDERS[name]._replace(environment='', threads=False)
               for name in names)


def blocks() -> list[Block]:
  """All blocks, in the order in which they are measured."""
  everybody = _peers('jax', 'torch', 'torch_vmap')
  dense, image, text = (
      TASKS[name]._replace(check_rounds=checked, precision='tensorfloat32')
      for name, checked in (
          ('mnist_2nn', 4), ('mnist_cnn', 2), ('char_lstm', 3)))
  exact = {'precision': 'highest'}
  return [
      Block('2nn_10', '2NN, 10 clients of 600', dense,
            (_ours(lanes=10), *everybody,
             _without('ours_host_loops', 'steps', lanes=10)),
            75, {'ours': 4.5, 'jax': 9, 'torch': 130, 'torch_vmap': 40,
                 'ours_host_loops': 7}),
      Block('cnn_10', 'CNN, 10 clients of 600', image,
            (_ours(lanes=10), *everybody,
             _without('ours_without_graphs', 'off', lanes=10)),
            80, {'ours': 21, 'jax': 60, 'torch': 200, 'torch_vmap': 100}),
      Block('lstm_10', 'character LSTM, 10 clients of 40', text,
            (_ours(lanes=10), *everybody), 90,
            {'ours': 31, 'jax': 60, 'torch': 160, 'torch_vmap': 900}),
      Block('2nn_1000', '2NN, 1,000 clients of 60',
            dense._replace(clients=1000, examples=60, check_rounds=2),
            (_ours(lanes=1000), *everybody), 70,
            {'ours': 11, 'jax': 14, 'torch': 1400, 'torch_vmap': 15}),
      Block('2nn_100', '2NN, 100 clients of 600',
            dense._replace(clients=100, check_rounds=2),
            (_ours(lanes=100), *everybody), 70,
            {'ours': 13, 'jax': 20, 'torch': 1300, 'torch_vmap': 45}),
      Block('cnn_100', 'CNN, 100 clients of 600',
            image._replace(clients=100, check_rounds=1),
            (_ours(lanes=100), *everybody), 90,
            {'ours': 170, 'jax': 500, 'torch': 2000, 'torch_vmap': 600}),
      Block('2nn_10_float32', '2NN, 10 clients of 600, float32 products',
            dense._replace(**exact), (_ours(lanes=10), *_peers('torch')), 45,
            {'ours': 5, 'torch': 130}),
      Block('cnn_10_float32', 'CNN, 10 clients of 600, float32 products',
            image._replace(**exact), (_ours(lanes=10), *_peers('torch')), 45,
            {'ours': 40, 'torch': 220}),
  ]


def tiny(block: Block) -> Block:
  """The block with sizes for a rehearsal on a CPU."""
  task = block.task
  clients = min(task.clients, 4)
  contenders = tuple(
      _with(c, lanes=min(c.options['lanes'], clients))
      if 'lanes' in c.options else c for c in block.contenders)
  return block._replace(contenders=contenders, task=task._replace(
      clients=clients, num_clients=8, examples=task.batch_size,
      check_rounds=2, band=1e3))
