"""What local work costs a client, in gradients.

The unit is a gradient of the loss on one batch where an algorithm's
`local_steps` are steps, and on one example where they are counted in examples.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

# Of a gradient: losses alone need no backward pass, which takes as long as two
# forward ones (it multiplies by weights and by activations).
FORWARD = 1 / 3


class LocalCost(NamedTuple):
  """What a client computes in a round; as it is here, what FedAvg's does.

  Attributes:
    gradients: what each of the `local_steps` takes.
    beside: int [M] sizes -> float [M], what clients of these sizes compute
      beside the steps, however many of them they get done.
  """

  gradients: float = 1.0
  beside: Callable[[np.ndarray], np.ndarray] = (
      lambda sizes: np.zeros(len(sizes)))
