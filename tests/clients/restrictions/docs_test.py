"""docs/restrictions.md: its table of bytes, and its example."""

import functools
import re
from pathlib import Path

import jax
import numpy as np
import optax
import pytest

import fedjax_sim as fs
from fedjax_sim.experiment import spec_fields
from fedjax_sim.simulation import traffic

PAGE = (Path(__file__).parents[3] / 'docs' / 'restrictions.md').read_text()
SHAPES = {'mnist_2nn': (28, 28), 'mnist_cnn': (28, 28),
          'cifar_cnn': (32, 32, 3)}


@functools.cache
def counted(model_name, spec):
  model = getattr(fs.models, model_name)()
  examples = {'x': np.zeros((2, *SHAPES[model_name]), np.uint8),
              'y': np.zeros(2, np.int32)}
  variables = jax.eval_shape(model.init, jax.random.key(0), examples['x'][:1])
  restrict = None if spec == 'none' else spec_fields.make(
      'restrict', spec_fields.bind('restrict', spec), {})
  algorithm = fs.algorithms.fedavg(model, optax.sgd(0.1), restrict=restrict)
  return traffic.per_client(algorithm, examples, variables)


@pytest.mark.slow
def test_the_table_of_bytes_is_counted():
  rows = re.findall(r'\| `(\w+_[2c]nn)` \| (.*) \| ([\d,]+) \| ([\d,]+) \| '
                    r'([\d.]+) \|', PAGE)
  assert len(rows) == 10
  for model, spec, down, up, times in rows:
    got = counted(model, spec.strip('`'))
    whole = counted(model, 'none')
    want = f'{got.down:,}', f'{got.up:,}', f'{whole.up / got.up:.1f}'
    assert (down, up, times) == want, (model, spec, want)


def test_a_restriction_of_ones_own():
  """One number of each array travels, with weight and seed."""
  *_, block = re.findall(r'```py\n(.*?)```', PAGE, re.S)
  names = {}
  exec(compile(block, 'restrictions.md', 'exec'), names)
  model = fs.models.logistic_regression()
  x = np.zeros((2, 8), np.float32)
  algorithm = fs.algorithms.fedavg(
      model, optax.sgd(0.1), restrict=names['one_direction']())
  got = traffic.per_client(
      algorithm, {'x': x, 'y': np.zeros(2, np.int32)},
      jax.eval_shape(model.init, jax.random.key(0), x))
  assert got.up == 4 * (2 + 1 + 1)
