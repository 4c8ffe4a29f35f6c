"""Where the time of a round goes, by the kind of operation.

  python -m benchmarks.profile_round [mnist_2nn mnist_cnn shakespeare_lstm]

Runs one round of 10 clients on one CPU device with XLA's own trace of every
operation, and adds up the time by what the operation does, a matrix product
with its speed. On a CPU only. Needs no result file: it is for looking.
"""

import argparse
import collections
import glob
import re
import tempfile
import time
from typing import NamedTuple

import jax
import numpy as np
import optax

from benchmarks import tasks
from fedjax_sim import algorithms, data, models
from fedjax_sim.core import compilation
from fedjax_sim.data import partition, sampling
from fedjax_sim.simulation import build as build_lib

_SHOWN = 12


class Operation(NamedTuple):
  """An instruction of the compiled program.

  Attributes:
    shape: of its result, in words.
    flops: of a matrix product, else 0.
  """

  shape: str
  flops: float


def operations(text: str) -> dict[str, Operation]:
  """All instructions of a compiled program, by name."""
  shapes, found = {}, {}
  lines = [match.groups() for match in re.finditer(
      r'^\s*(?:ROOT )?%?([\w.\-]+) = (\w+)\[([\d,]*)\][^ ]* (.*)$', text, re.M)]
  for name, _, sizes, _ in lines:
    shapes[name] = [int(n) for n in sizes.split(',') if n]
  for name, dtype, sizes, rest in lines:
    flops = 0.0
    if 'dot(' in rest or 'dot_general' in rest or 'ynn_fusion' in name:
      operands = [shapes.get(n, []) for n in re.findall(r'%([\w.\-]+)', rest)]
      if len(operands) > 1 and all(len(o) == 2 for o in operands[:2]):
        # m k, k n: the product of all three.
        m_n = np.prod(shapes[name])
        both = np.prod(operands[0]) * np.prod(operands[1])
        flops = 2 * m_n * np.sqrt(both / m_n)
    found[name] = Operation(f'{dtype}[{sizes}]', flops)
  return found


def simulation(name: str):
  """A federation of 10 clients for a model."""
  if name == 'shakespeare_lstm':
    (x, y), _ = tasks.text()
    size = 40
  else:
    (x, y), _ = tasks.mnist()
    size = 600
  parts = [part[:size] for part in partition.iid(len(x), 10, seed=0)]
  model = getattr(models, name)()
  return build_lib.build(
      model, algorithms.fedavg(model, optax.sgd(0.1), batch_size=10),
      data.federate({'x': x, 'y': y}, parts), sampling.uniform(10, 10, seed=0),
      devices=1, lanes=1)


def profile(name: str) -> None:
  """Prints the operations of a round that take most time."""
  one = simulation(name)
  state = one.init()
  program = one.trace().lower().compile(
      compiler_options=compilation.options() | {
          'xla_cpu_enable_xprof_traceme': True})
  plan = one.place(one.plan(0, [False]))

  def run(state):
    return jax.block_until_ready(program(
        one.examples, state, plan, np.int32(0), np.int32(1), one.key,
        one.eval_data))[0]

  state = run(state)
  begun = time.perf_counter()
  state = run(state)
  seconds = time.perf_counter() - begun
  with tempfile.TemporaryDirectory() as folder:
    with jax.profiler.trace(folder):
      run(state)
    (file,) = glob.glob(f'{folder}/**/*.xplane.pb', recursive=True)
    trace = jax.profiler.ProfileData.from_file(file)
  known = operations(program.as_text())
  spent, calls = collections.Counter(), collections.Counter()
  for plane in trace.planes:
    for line in plane.lines:
      for event in line.events:
        if event.name in known and not event.name.startswith('while'):
          spent[event.name] += event.duration_ns / 1e9
          calls[event.name] += 1
  report(name, seconds, known, spent, calls)


def report(name, seconds, known, spent, calls) -> None:
  """One line an operation."""
  products = sum(known[n].flops * calls[n] for n in spent)
  in_products = sum(spent[n] for n in spent if known[n].flops)
  print(f'\n{name}: a round takes {seconds:.3f} s; traced operations take '
        f'{sum(spent.values()):.3f} s, of it matrix products {in_products:.3f} '
        f's at {products / in_products / 1e9:.0f} GFLOP/s')
  for n, s in spent.most_common(_SHOWN):
    rate = f'{known[n].flops * calls[n] / s / 1e9:5.0f} GFLOP/s' if (
        known[n].flops) else ' ' * 13
    print(f'  {s / sum(spent.values()):6.1%}  {rate}  {calls[n]:6} times  '
          f'{known[n].shape:22} {n}')


def main() -> None:
  parser = argparse.ArgumentParser(
      description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
  parser.add_argument('models', nargs='*', default=[
      'mnist_2nn', 'mnist_cnn', 'shakespeare_lstm'])
  for name in parser.parse_args().models:
    profile(name)


if __name__ == '__main__':
  main()
