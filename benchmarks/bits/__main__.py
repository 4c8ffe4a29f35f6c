"""What compressors say that a message takes, and what it takes.

  python -m benchmarks.bits            # measures, and writes the results
  python -m benchmarks.bits --report   # puts the tables into the page

One client's update of the 2NN on non-IID MNIST, configs/mnist_noniid.py, after
20 rounds. Each compressor counts its bits as in any run. Then its message is
written to bytes by coders in NumPy (`wires`), read again and compared with what
the server had.

A line for each compressor goes to benchmarks/results/bits.jsonl. It takes about
a minute.
"""

import argparse
import json
import math
import re
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax import numpy as jnp

from benchmarks.bits import others, wires
from benchmarks.bits.wires import WIRES, Sent, Wire
from configs import mnist_noniid
from fedjax_sim.aggregation.chain import nobody
from fedjax_sim.core import costs, trees
from fedjax_sim.core.types import (
    ClientData,
    Keys,
    Message,
    MessageTransform,
    PyTree,
)
from fedjax_sim.experiment import build_run, spec_fields
from fedjax_sim.simulation.drive import drive

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / 'benchmarks' / 'results' / 'bits.jsonl'
PAGE = ROOT / 'docs' / 'communication.md'
ROUNDS, CLIENT = 20, 0
KEYS = Keys(jax.random.key(1), jax.random.key(2))


def real_update() -> PyTree:
  """What client 0 sends after 20 rounds of the main job."""
  config = mnist_noniid.get_config()
  config.rounds = ROUNDS
  shape = build_run.Shape(1, 2, 'auto')
  simulation = build_run.build(config, shape).simulation
  *_, last = drive(simulation, simulation.init(), ROUNDS)
  train, algorithm = simulation.train, simulation.algorithm
  examples = jax.tree.map(jnp.asarray, train.examples)
  data = ClientData(
      examples, jnp.int32(train.offsets[CLIENT]),
      jnp.int32(train.sizes[CLIENT]), train.max_size, True)
  output = jax.jit(lambda state, key: algorithm.client(
      algorithm.broadcast(state), (), data, key))(
          last.state.server, jax.random.key(0))
  return jax.device_get(output.message.update)


def sent_by(part: MessageTransform, update: PyTree) -> tuple[Message, float]:
  """The message after a compressor, and the bits that it counts."""
  counted = []

  def send(update):
    message = Message(update, jnp.float32(1), jnp.array(True),
                      cost=costs.of(update))
    state, memory = part.init(message, 1, KEYS.round), part.client_init(message)
    sent, _ = part.client(message, state, memory, KEYS, nobody(1))
    total = costs.total(sent.cost)
    counted.append(total)
    return sent._replace(cost=None), jnp.float32(total)

  sent, total = jax.device_get(jax.jit(send)(update))
  known = not isinstance(counted[0], jax.Array)
  return sent, float(counted[0] if known else total)


def vectors(message: Message, update: PyTree) -> list[Sent]:
  """The leaves of a message, as a wire takes them."""
  after, before = jax.tree.leaves(message.update), jax.tree.leaves(update)
  masks = [None] * len(after)
  if message.sent is not None:
    masks = [np.ravel(mask) for mask in jax.tree.leaves(message.sent)]
  return [Sent(np.ravel(np.asarray(x, np.float32)), mask, np.ravel(old),
               jax.random.fold_in(KEYS.client, i), i == 0)
          for i, (x, mask, old) in enumerate(zip(
              after, masks, before, strict=True))]


def measure(spec: str, wire: Wire, update: PyTree) -> dict[str, Any]:
  """Counts, writes, reads and compares one message.

  Raises:
    ValueError: what is read is not what the server had.
  """
  part = spec_fields.make('uplink', spec_fields.bind('uplink', spec), {})
  message, counted = sent_by(part, update)
  leaves = vectors(message, update)
  written, error = wires.write(wire, leaves), 0.0
  for leaf, got in zip(
      leaves, wires.read(wire, written, leaves), strict=True):
    off = np.abs(got - leaf.values).max(initial=0)
    error = max(error, float(off / max(np.abs(leaf.values).max(), 1e-30)))
  if error > 1e-5:
    raise ValueError(f'{spec}: what is read is {error} off.')
  return {'spec': spec, 'parameters': trees.size(update),
          'counted_bytes': counted / 8, 'written_bytes': len(written),
          'error': error}


def table(results: list[dict[str, Any]]) -> str:
  """In Markdown: counted and written bytes of each compressor."""
  lines = ['| uplink | counted, bytes | written, bytes | off by '
           '| bits a weight | times fewer |', '|---|---:|---:|---:|---:|---:|']
  whole = next(r['written_bytes'] for r in results if r['spec'] == 'identity')
  for r in results:
    off = round(r['counted_bytes'] / r['written_bytes'] - 1, 4) + 0.0
    fewer = whole / r['written_bytes']
    bits = 8 * r['written_bytes'] / r['parameters']
    spec = r['spec'].replace('|', '\\|')
    lines.append(
        f'| `{spec}` | {math.ceil(r["counted_bytes"]):,} '
        f'| {r["written_bytes"]:,} | {off:.2%} | {bits:.3g} '
        f'| {fewer:,.{0 if fewer >= 100 else 1}f} |')
  return '\n'.join(lines)


def read() -> list[dict[str, Any]]:
  """The committed results."""
  return [json.loads(line) for line in RESULTS.read_text().splitlines()]


def report(page: Path = PAGE) -> str:
  """The page with the tables of the committed results in it."""
  results, text = read(), page.read_text()
  for name, made in (('bits', table(results)),
                     ('bits of FedJAX', others.table(results))):
    text = re.sub(rf'(?<=<!-- {name} -->\n).*?(?=<!-- end {name} -->)',
                  lambda _, made=made: f'{made}\n', text, flags=re.S)
  return text


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--report', action='store_true')
  if not parser.parse_args().report:
    update = real_update()
    sizes = [x.size for x in jax.tree.leaves(update)]
    lines = [json.dumps(measure(spec, wire, update) | {'sizes': sizes})
             for spec, wire in WIRES.items()]
    RESULTS.write_text('\n'.join(lines) + '\n')
  print(table(read()))
  if PAGE.exists():
    PAGE.write_text(report())


if __name__ == '__main__':
  main()
