"""What one client's update costs on the wire, and what is lost of it.

  python -m benchmarks.message_bits

The update is real: of the 2NN on the digits that come with scikit-learn, after
one local epoch of a client, from where ten rounds of FedAvg have left the
model. For each spec of `uplink` it has the bits that are counted, the mean
squared error of what the server reads of one message, and that of the mean of
`CLIENTS` messages of the same update with draws of their own: what is unbiased
falls to a `CLIENTS`-th, what is biased stays. Errors are parts of the update's
squared length. Beside them, where it has that compressor, the bits by FedJAX's
formula (fedjax/aggregators/compression.py, 0.0.17).

A line for each spec goes to benchmarks/results/message_bits.jsonl, instead of
those before.
"""

import json
import math
from pathlib import Path

import jax
import numpy as np
import optax
from jax import numpy as jnp

import fedjax_sim
from fedjax_sim import algorithms, models
from fedjax_sim.aggregation.chain import nobody
from fedjax_sim.core import builders, costs, trees
from fedjax_sim.core.types import ClientData, Keys, Message
from fedjax_sim.data.federated import federate
from fedjax_sim.data.sets import load
from fedjax_sim.experiment import spec_fields

RESULTS = Path(__file__).parent / 'results' / 'message_bits.jsonl'
CLIENTS = 64
EXAMPLES = 60

SPECS = [
    'identity', 'cast', 'rotate', 'subsample(0.1)', 'quantize(bits=8)',
    'quantize(bits=4)', 'quantize(bits=4, coder="entropy")',
    'quantize(bits=2)', 'rotate | quantize(bits=2)',
    'rotate("vector") | quantize(bits=2, over="vector")',
    'rotate | subsample(0.25) | quantize(bits=2)', 'qsgd(1)', 'qsgd(15)',
    'qsgd(127)', 'qsgd(127, coder="fixed")', 'terngrad',
    'terngrad(coder="entropy")', 'terngrad(None)', 'sign_sgd(scaled=True)',
    'drive', 'drive(unbiased=False)', 'drive(over="vector")', 'eden(2)',
    'eden(4)', 'eden(4, coder="entropy")',
]
# Bits a value, without a word on padding; and two floats a leaf.
FEDJAX = {'quantize(bits=8)': 8, 'quantize(bits=4)': 4, 'quantize(bits=2)': 2,
          'rotate | quantize(bits=2)': 2, 'terngrad': math.log2(3), 'drive': 1}


def real_update():
  """A client's update of the 2NN on digits."""
  train = load.digits().train
  model = models.mnist_2nn()
  order = np.random.default_rng(0).permutation(len(train['y']))
  examples = {name: x[order] for name, x in train.items()}
  run = fedjax_sim.simulate(
      model, algorithms.fedavg(model, optax.sgd(0.1), batch_size=10),
      federate(examples, np.split(np.arange(20 * EXAMPLES), 20)),
      rounds=10, clients_per_round=10, devices=1, lanes=5, progress=False)
  algorithm = algorithms.fedavg(model, optax.sgd(0.1), batch_size=10)
  key = jax.random.key(0)
  server = algorithm.init(run.state.server.variables, key, 20)
  output = algorithm.client(
      algorithm.broadcast(server), (), ClientData(
          jax.tree.map(jnp.asarray, examples), jnp.int32(0),
          jnp.int32(EXAMPLES), EXAMPLES, False, jnp.int32(EXAMPLES)), key)
  return output.message.update


def measured(spec: str, update) -> dict:
  """A row of the results."""
  part = builders.build(spec_fields.bind('uplink', spec), {})
  message = Message(update, jnp.float32(1), cost=costs.of(update))

  def one(key):
    keys = Keys(*jax.random.split(key))
    state = part.init(message, 1, keys.round)
    sent, _ = part.client(
        message, state, part.client_init(message), keys, nobody(1))
    return (part.decode(sent.update, state, keys.round, update),
            jnp.float32(costs.total(sent.cost)))

  read, bits = jax.jit(jax.vmap(one))(
      jax.random.split(jax.random.key(1), CLIENTS))
  square = lambda tree: sum(
      np.sum(np.square(np.float64(x))) for x in jax.tree.leaves(tree))
  errors = jax.tree.map(
      lambda r, u: np.float64(r) - np.float64(u), read, update)
  length, size = square(update), trees.size(update)
  row = {'spec': spec, 'values': size, 'bits': float(np.mean(bits)),
         'bits_a_value': float(np.mean(bits)) / size,
         'error_of_one': square(errors) / CLIENTS / length,
         'error_of_mean': square(
             jax.tree.map(lambda e: e.mean(0), errors)) / length}
  if spec in FEDJAX:
    leaves = len(jax.tree.leaves(update))
    row['bits_of_fedjax'] = FEDJAX[spec] * size + 64 * leaves
  return row


def main():
  update = real_update()
  rows = []
  for spec in SPECS:
    rows.append(measured(spec, update) | {'clients': CLIENTS})
    print(json.dumps(rows[-1]), flush=True)
  RESULTS.write_text(''.join(json.dumps(row) + '\n' for row in rows))


if __name__ == '__main__':
  main()
