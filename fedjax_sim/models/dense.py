"""Classifiers of dense layers, on inputs of any shape, flattened inside.

Weights are drawn by `kernel_init`; biases start at zero. Its default,
Glorot-uniform, was the default of TensorFlow in the years of the FedAvg paper,
which does not state its own.
"""

from collections.abc import Callable

import jax
from flax import linen as nn
from jax.nn import initializers

from fedjax_sim.core import checks, types
from fedjax_sim.models import adapters, linen, losses
from fedjax_sim.models.hidden import hidden_layers

Initializer = Callable[..., jax.Array]

# Of MNIST's training pixels in [0, 1].
MNIST_MEAN, MNIST_DEVIATION = 0.1307, 0.3081


class Dense(nn.Module):
  """Dense layers with ReLU between them.

  Attributes:
    widths: the number of outputs of each layer; ReLU after all but the last.
    kernel_init: draws the weights.
    dropout: rate of dropout before every ReLU.
  """

  widths: tuple[int, ...]
  kernel_init: Initializer
  dropout: float = 0.0

  @nn.compact
  def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
    """Maps inputs [B, ...] to logits [B, widths[-1]]."""
    x = x.reshape(x.shape[0], -1)
    for i, width in enumerate(self.widths):
      if i:
        x = nn.Dropout(self.dropout, deterministic=not train)(x)
        x = nn.relu(x)
      x = nn.Dense(width, kernel_init=self.kernel_init, name=f'dense_{i}')(x)
    return x


def mnist_2nn(
    num_classes: int = 10,
    *,
    loss: adapters.Loss = losses.cross_entropy,
    kernel_init: Initializer = initializers.glorot_uniform(),
    preprocess: Callable = adapters.as_float,
) -> types.Model:
  """The 2NN of the FedAvg paper: two hidden layers of 200, ReLU.

  199,210 parameters on MNIST. McMahan et al., arXiv:1602.05629, section 3.

  Args:
    num_classes: number of outputs.
    loss: as in `from_linen`.
    kernel_init: see above.
    preprocess: of the pixels, `as_float` or `centered`.
  """
  return _dense((200, 200), num_classes, loss, kernel_init,
                preprocess=preprocess)


def logistic_regression(
    num_classes: int = 10,
    *,
    loss: adapters.Loss = losses.cross_entropy,
    kernel_init: Initializer = initializers.glorot_uniform(),
    preprocess: Callable = adapters.as_float,
) -> types.Model:
  """Multinomial logistic regression; 7,850 parameters on MNIST.

  Args:
    num_classes: number of outputs.
    loss: as in `from_linen`; convex with `cross_entropy`.
    kernel_init: see above.
    preprocess: of the pixels, `as_float` or `centered`.
  """
  return _dense((), num_classes, loss, kernel_init,
                preprocess=preprocess)


def course_mlp(
    num_classes: int = 10,
    *,
    loss: adapters.Loss = losses.cross_entropy,
    kernel_init: Initializer = initializers.glorot_uniform(),
) -> types.Model:
  """The course report's MLP: one hidden layer of 64, dropout 0.5, ReLU.

  50,890 parameters on MNIST. The MLP of
  github.com/AshwinRJ/Federated-Learning-PyTorch (`src/models.py`) layer for
  layer, dropout before the ReLU, on pixels standardized as there
  (`src/utils.py`): minus 0.1307, divided by 0.3081. There the outputs are
  probabilities; here they are logits, and the softmax is part of the loss:
  `losses.nll_of_softmax` is the one of that repository. Initialisation
  differs: PyTorch draws weights and biases from
  U(-1/sqrt(inputs), 1/sqrt(inputs)).

  Args:
    num_classes: number of outputs.
    loss: as in `from_linen`.
    kernel_init: see above.
  """
  return _dense((64,), num_classes, loss, kernel_init, dropout=0.5,
                preprocess=adapters.standardized(MNIST_MEAN, MNIST_DEVIATION))


def _dense(hidden, num_classes, loss, kernel_init, dropout=0.0,
           preprocess=adapters.as_float):
  checks.positive_int('num_classes', num_classes)
  names = [f'dense_{i}' for i in range(len(hidden) + 1)]

  def narrow(widths):
    return linen.from_linen(
        Dense((*widths.values(), num_classes), kernel_init, dropout),
        loss=loss, preprocess=preprocess, fast_convolutions=False)

  widths = dict(zip(names[:-1], hidden, strict=True))
  return narrow(widths)._replace(
      hidden=hidden_layers(widths, names[-1], narrow))
