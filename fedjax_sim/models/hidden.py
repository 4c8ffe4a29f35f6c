"""Which arrays the units of hidden layers belong to, for layers in a row."""

from collections.abc import Callable, Mapping

from fedjax_sim.core import checks
from fedjax_sim.core.model import Hidden, Model


def hidden_layers(
    widths: Mapping[str, int], output: str,
    narrow: Callable[[Mapping[str, int]], Model],
) -> Hidden:
  """The hidden units of dense layers and convolutions that follow each other.

  Each layer's arrays are 'kernel', whose last axis are its units and whose last
  but one those of the layer before, and 'bias', as flax names and lays them
  out; between layers there may be whatever treats all units alike: ReLU,
  pooling, flattening of [B, h, w, units].

  Example:

    model = from_linen(MLP(hidden=64))._replace(hidden=hidden_layers(
        {'Dense_0': 64}, 'Dense_1',
        lambda widths: from_linen(MLP(hidden=widths['Dense_0']))))

  Args:
    widths: name of each hidden layer, in order -> its number of units.
    output: name of the layer after the last of them.
    narrow: as in `Hidden`.

  Raises:
    ValueError: a width is not positive, or `narrow` no function.
  """
  for layer, width in widths.items():
    checks.positive_int(f'the width of {layer}', width)
  checks.function('narrow', narrow, 'of widths, which returns a Model')
  following = [*widths, output][1:]
  axes = {layer: {f'params/{layer}/kernel': -1, f'params/{layer}/bias': -1,
                  f'params/{after}/kernel': -2}
          for layer, after in zip(widths, following, strict=True)}
  return Hidden(widths, axes, narrow)
