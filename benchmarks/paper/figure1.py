"""Figure 1 of McMahan et al. (2016): the loss between two models.

  python -m benchmarks.paper.figure1            measure, and draw the figure
  python -m benchmarks.paper.figure1 --plot     draw the last result

Two 2NNs each train on 600 MNIST examples of their own (E = 20, B = 50: 240
updates, rate 0.1), once from different random weights and once from the same.
Drawn is the loss of theta w + (1 - theta) w' on all 60,000 training examples.

A line goes to benchmarks/results/paper/figure1.jsonl, its figure to
docs/paper/figure1.png.
"""

import argparse
import datetime
import json
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
import optax
from jax import numpy as jnp

from fedjax_sim import data, interpolation, models
from fedjax_sim.clients import batches
from fedjax_sim.clients.local_sgd import LocalState, run_sgd
from fedjax_sim.core import files, random
from fedjax_sim.core.types import ClientData, Model
from fedjax_sim.experiment import workdir

ROOT = Path(__file__).parent.parent.parent
RESULTS = ROOT / 'benchmarks' / 'results' / 'paper' / 'figure1.jsonl'
FIGURE = ROOT / 'docs' / 'paper' / 'figure1.png'

SEEDS = (0, 1, 2)
BATCH_SIZE = 50
THETAS = np.arange(-7, 43) / 35  # 50 from -0.2 to 1.2.
MARKED = np.array([0, 0.5, 1])  # w', the average, and w.
PANELS = {'different': 'Different initialization', 'shared':
          'The same initialization'}


def trainer(
    model: Model, clients: data.FederatedData, epochs: int = 20
) -> Callable[..., LocalState]:
  """`(Variables, client's number, key) -> LocalState` after E epochs alone."""
  examples, offsets = jax.device_put((clients.examples, clients.offsets))

  @jax.jit
  def train(variables, client, key):
    size = offsets[client + 1] - offsets[client]
    own = ClientData(
        examples, offsets[client], size, clients.max_size, ragged=False)
    steps = epochs * batches.steps_per_epoch(size, BATCH_SIZE)
    return run_sgd(
        model, optax.sgd(0.1), variables, own,
        random.client_key(key, client, jnp.int32(0)), batch_size=BATCH_SIZE,
        num_steps=steps)

  return train


def measure(
    examples: dict, seed: int, *, size: int = 600, epochs: int = 20
) -> dict:
  """Both panels for one seed.

  Args:
    examples: the training set, [E, ...], E a multiple of `size`.
    seed: of weights, of who holds what, of orders.
    size: examples of each of the two clients.
    epochs: E.

  Returns:
    panel -> {'losses': [50] at THETAS, 'marked': [3] at MARKED}; and 'seed'.
  """
  model, key = models.mnist_2nn(), jax.random.key(seed)
  labels = examples['y']
  parts = data.partition.iid(labels, len(labels) // size, seed=seed)
  train = trainer(model, data.federate(examples, parts[:2]), epochs)
  first, second = (
      model.init(random.named(key, name), examples['x'][:1])
      for name in ('first', 'second'))
  w = train(first, 0, key).variables
  result = {'seed': seed}
  for panel, start in (('different', second), ('shared', first)):
    losses = interpolation.loss_between(
        model, w, train(start, 1, key).variables, examples,
        np.concatenate([THETAS, MARKED]))
    result[panel] = {'losses': losses[:len(THETAS)].tolist(),
                     'marked': losses[len(THETAS):].tolist()}
    print(f'seed {seed}, {panel}: loss {losses[-1]:.3f} of w, '
          f"{losses[-3]:.3f} of w', {losses[-2]:.3f} of their average",
          flush=True)
  return result


def plot(line: dict, path: Path = FIGURE) -> None:
  """Draws a result line: a panel each; the first seed, the others thin."""
  from matplotlib.figure import Figure
  figure = Figure(figsize=(9, 4), layout='constrained', dpi=110)
  for axes, (panel, title) in zip(
      figure.subplots(1, 2), PANELS.items(), strict=True):
    _draw_panel(axes, line['thetas'], [run[panel] for run in line['runs']])
    axes.set_title(title, fontsize=11, pad=24)
    axes.legend(loc='lower center', bbox_to_anchor=(0.5, 0.99), ncols=3,
                frameon=False, fontsize=8, columnspacing=1, handlelength=1.5)
  path.parent.mkdir(parents=True, exist_ok=True)
  with files.replacing(path) as file:
    figure.savefig(file, format='png')


def _draw_panel(axes, thetas: list[float], runs: list[dict]) -> None:
  """The seeds' curves, the first one's lowest point, and its parents."""
  for i, run in enumerate(runs[1:]):
    axes.plot(thetas, run['losses'], color='tab:gray', lw=0.8,
              label=None if i else 'other seeds')
  losses = np.array(runs[0]['losses'])
  lowest = np.argmin(losses)
  axes.plot(thetas, losses, '.-')
  axes.plot(thetas[lowest], losses[lowest], 'o', color='tab:red', label=
            f'lowest: {losses[lowest]:.3f} at {thetas[lowest]:.2f}')
  for parent in (0, 1):
    axes.axvline(parent, color='k', lw=0.8, alpha=0.4)
  first, _, second = runs[0]['marked']
  axes.axhline(min(first, second), color='k', lw=0.8, ls='--',
               label='better of the two')
  axes.set_xlabel(r"$\theta$, the share of $w$ in $\theta w + (1-\theta) w'$")
  axes.set_ylabel('loss on the whole training set')
  axes.grid(alpha=0.3)


def main() -> None:
  parser = argparse.ArgumentParser(
      description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
  parser.add_argument('--plot', action='store_true')
  if not parser.parse_args().plot:
    examples = data.load('mnist').train
    line = {'thetas': THETAS.tolist(), 'marked_thetas': MARKED.tolist(),
            'runs': [measure(examples, seed) for seed in SEEDS],
            'date': datetime.date.today().isoformat(),
            'environment': workdir.environment()}
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    with RESULTS.open('a') as file:
      file.write(json.dumps(line) + '\n')
  plot(json.loads(RESULTS.read_text().splitlines()[-1]))


if __name__ == '__main__':
  main()
