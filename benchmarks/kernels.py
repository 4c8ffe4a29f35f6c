"""The parts of models that have a form of their own here, beside the plain one.

  python -m benchmarks.kernels [--repeats 7]

Each is run forward and backward inside a loop, as in local SGD, batch 10, one
client on one device, its weights changed after every step; all forms of a case
in turns, the median. Told are times as multiples of the form that the package
takes:

  convolution  lax.conv_general_dilated; all taps side by side and one product
               ('patches'); a product a kernel row ('rows'); minimal filtering
               along the rows ('tiles'); the last three are in
               models/convolution.py
  max-pooling  flax's, by windows, and ours, by selects between slices
  LSTM layer   lax.scan differentiated automatically, and models/recurrent.py

A line goes to benchmarks/results/kernels.jsonl.
"""

import argparse
import datetime
import functools
import json
import time
from pathlib import Path

import jax
import numpy as np
from flax import linen as nn
from jax import lax
from jax import numpy as jnp

from fedjax_sim import models
from fedjax_sim.core import compilation
from fedjax_sim.experiment import workdir
from fedjax_sim.models import convolution, recurrent

RESULTS = Path(__file__).parent / 'results' / 'kernels.jsonl'
BATCH, STEPS = 10, 20
_LAYOUT = ('NHWC', 'HWIO', 'NHWC')

# Image side, channels in, channels out, kernel side.
CONVOLUTIONS = (
    (28, 1, 32, 5), (14, 32, 64, 5), (24, 32, 64, 3), (12, 64, 128, 3),
    (8, 256, 256, 3), (16, 32, 32, 3), (32, 16, 32, 3), (28, 16, 16, 5))


def steps(function, x, weights):
  """The compiled loop: a step down the gradient of sum(function ** 2) / 2."""

  def body(_, carry):
    x, weights = carry
    y, pull = jax.vjp(function, x, weights)
    dx, dw = pull(y)
    descend = lambda a, b: jax.tree.map(lambda p, g: p - 1e-6 * g, a, b)
    return descend(x, dx), descend(weights, dw)

  loop = jax.jit(lambda x, w: lax.fori_loop(0, STEPS, body, (x, w)))
  program = loop.lower(x, weights).compile(
      compiler_options=compilation.options())
  return lambda: jax.block_until_ready(program(x, weights))


def convolution_forms(side, inputs, outputs, kernel):
  """name -> loop."""
  rng = np.random.default_rng(0)
  x = jnp.float32(rng.normal(size=(BATCH, side, side, inputs)))
  w = jnp.float32(rng.normal(size=(kernel, kernel, inputs, outputs)) * 0.03)
  frame = convolution._frame(x, w, (1, 1), 'SAME', (1, 1))
  dot = functools.partial(
      lax.dot_general, preferred_element_type=jnp.float32)
  forms = {'lax': lambda x, w: lax.conv_general_dilated(
      x, w, (1, 1), 'SAME', dimension_numbers=_LAYOUT)}
  for name in ('patches', 'rows', 'tiles'):
    form = getattr(convolution, f'_by_{name}')
    forms[name] = lambda x, w, form=form: form(x, w, frame, dot)
  forms['chosen'] = lambda x, w: convolution.conv_general_dilated(
      x, w, (1, 1), 'SAME', dimension_numbers=_LAYOUT)
  return {name: steps(form, x, w) for name, form in forms.items()}


def pooling_forms():
  """name -> loop."""
  x = jnp.float32(np.random.default_rng(0).normal(size=(BATCH, 24, 24, 64)))
  shape = (2, 2), (2, 2)
  return {
      'windows': steps(lambda x, w: w * nn.max_pool(x, *shape), x,
                       jnp.float32(1)),
      'chosen': steps(lambda x, w: w * models.max_pool(x, *shape), x,
                      jnp.float32(1))}


def lstm_forms():
  """name -> loop."""
  rng = np.random.default_rng(0)
  draw = lambda *shape: jnp.float32(rng.normal(size=shape) * 0.05)
  x = draw(BATCH, 80, 256)
  weights = draw(256, 1024), draw(256, 1024), draw(1024)

  def plain(x, weights):
    inputs, hidden, bias = weights
    products = jnp.einsum('btf,fg->tbg', x, inputs) + bias[None, None]

    def step(carry, z):
      h, c = carry
      i, f, g, o = jnp.split(z + h @ hidden, 4, axis=-1)
      c = jax.nn.sigmoid(f + 1) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
      h = jax.nn.sigmoid(o) * jnp.tanh(c)
      return (h, c), h

    zeros = jnp.zeros((BATCH, 256))
    return lax.scan(step, (zeros, zeros), products)[1]

  return {'scan': steps(plain, x, weights),
          'chosen': steps(lambda x, w: recurrent.lstm(x, *w), x, weights)}


def cases():
  """(what, name -> loop)."""
  for case in CONVOLUTIONS:
    side, inputs, outputs, kernel = case
    yield (f'convolution {kernel}x{kernel}, {side}x{side}, {inputs} to '
           f'{outputs}', convolution_forms(*case))
  yield 'max-pooling 2x2, 24x24, 64', pooling_forms()
  yield 'LSTM layer of 256, 80 steps', lstm_forms()


def main() -> None:
  parser = argparse.ArgumentParser(
      description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
  parser.add_argument('--repeats', type=int, default=7)
  repeats = parser.parse_args().repeats
  ratios = {}
  for what, forms in cases():
    times = {name: [] for name in forms}
    for turn in range(repeats + 1):
      for name, loop in forms.items():
        begun = time.perf_counter()
        loop()
        if turn:
          times[name].append(time.perf_counter() - begun)
    chosen = np.array(times.pop('chosen'))
    ratios[what] = {name: float(np.median(np.array(values) / chosen))
                    for name, values in times.items()}
    print(what + ': ' + ', '.join(
        f'{name} {ratio:.2f}' for name, ratio in ratios[what].items()),
        flush=True)
  with RESULTS.open('a') as file:
    file.write(json.dumps({
        'ratios': ratios, 'date': datetime.date.today().isoformat(),
        'environment': workdir.environment()}) + '\n')


if __name__ == '__main__':
  main()
