"""How objects of functions and arrays are shown: in one line."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np


def maker(function: Callable) -> str:
  """The function in which another was made; 'fedavg' of FedAvg's client."""
  name = getattr(function, '__qualname__', type(function).__name__)
  return name.split('.<locals>')[0].rsplit('.', 1)[-1]


def arrays(tree: Any) -> str:
  """Each array of a tree as dtype and shape; 'None' of none."""
  return str(jax.tree.map(
      lambda x: f'{np.asarray(x).dtype}{list(np.shape(x))}', tree))


def metrics(record: Mapping[str, Any]) -> str:
  """The metrics of a record: those of the test set, or of training."""
  tested = [name for name in record if name.startswith('test/')]
  names = tested or [name for name in record if name.startswith('train/')]
  return ', '.join(f'{name}={record[name]:.4g}' for name in names)
