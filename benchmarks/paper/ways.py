"""Other ways to compute a cell of the 2NN, C = 0.1, E = 1, B = 10.

The paper leaves open what these vary.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from jax import numpy as jnp
from jax.nn import initializers

from benchmarks.paper import readings
from benchmarks.paper import way_parts as parts
from fedjax_sim.core import types
from fedjax_sim.data import partition, sampling
from fedjax_sim.models import adapters


class Way(NamedTuple):
  """One line.

  Attributes:
    clients: 'IID' or 'non-IID'.
    name: of the way.
    model: builds it.
    sixths: rates, as sixths of a power of ten.
    unit: what rates are multiplied by.
    limit: rounds after which a rate is given up.
    read: the readings that each member runs on for, names of `READINGS`.
    seeds: of weights, cohorts and orders.
    deal: (labels, seed) -> partition; None is `iid` or `shards`.
    deal_seed: of the partition; None is the member's.
    sampler: seed -> who takes part; None draws without replacement.
    make: (model, rate) -> the algorithm.
  """

  clients: str
  name: str
  model: Callable[[], types.Model]
  sixths: tuple[int, ...] = (-10, -8, -6, -4, -2)
  unit: float = 1.0
  limit: int = 160
  read: tuple[str, ...] = (readings.PLAIN,)
  seeds: Sequence[int] = (0, 1, 2)
  deal: Callable[[np.ndarray, int], partition.Partition] | None = None
  deal_seed: int | None = None
  sampler: Callable[[int], sampling.Sampler] | None = None
  make: Callable[[types.Model, float], types.FederatedAlgorithm] = parts.plain

  @property
  def rates(self) -> tuple[float, ...]:
    return tuple(10 ** (k / 6) * self.unit for k in self.sixths)


def _pixels(low: float, high: float) -> Callable[[], types.Model]:
  return lambda: parts.net(preprocess=parts.scaled(low, high))


_centered = _pixels(-0.5, 0.5)


def _noniid(name: str, sixths=(-6,), model=_centered, **fields) -> Way:
  """With pixels from -0.5 to 0.5, at the rate that is best there."""
  return Way('non-IID', name, model, sixths, **{
      'limit': 1000, 'seeds': (0, 1), **fields})


_early_tensorflow = initializers.truncated_normal(0.1)
_GRID = {'sixths': (-6, -4, -2), 'limit': 1000, 'read': (
    'every round', 'every 10', 'every 20', 'every 50')}
# What TensorFlow's tutorials and defaults had in 2015 and 2016.
WEIGHTS_AND_PIXELS = (
    Way('IID', 'Glorot-uniform, pixels 0 to 1 (ours)', parts.net),
    Way('IID', 'uniform, variance 1 / inputs',
        lambda: parts.net(initializers.lecun_uniform())),
    Way('IID', 'truncated normal, deviation 1 / sqrt(inputs)',
        lambda: parts.net(initializers.variance_scaling(
            1.0, 'fan_in', 'truncated_normal'))),
    Way('IID', 'truncated normal, deviation 0.1, biases 0.1',
        lambda: parts.net(_early_tensorflow, 0.1)),
    Way('IID', 'normal, deviation 0.01',
        lambda: parts.net(initializers.normal(0.01))),
    Way('IID', 'pixels -0.5 to 0.5', _centered),
    Way('IID', 'pixels -1 to 1', _pixels(-1, 1)),
    Way('IID', 'pixels standardized', lambda: parts.net(
        preprocess=adapters.standardized(0.1307, 0.3081))),
    # Pixels 255 times as large want rates 255^2 times as small.
    Way('IID', 'pixels 0 to 255', _pixels(0, 255),
        unit=1 / 255 ** 2),
    Way('non-IID', 'Glorot-uniform, pixels 0 to 1 (ours)', parts.net,
        **_GRID),
    Way('non-IID', 'pixels -0.5 to 0.5', _centered,
        **_GRID | {'sixths': (-8, -6, -4)}),
    Way('non-IID', 'pixels -0.5 to 0.5, truncated normal, deviation 0.1, '
        'biases 0.1', lambda: parts.net(
            _early_tensorflow, 0.1, preprocess=parts.scaled(-0.5, 0.5)),
        **_GRID | {'sixths': (-8, -6, -4)}),
)
# Non-IID, with the pixels that make the IID cells agree. Most telling first.
NONIID = (
    _noniid('batches fixed, one digit after the other', (-8, -6),
            make=parts.ordered()),
    _noniid('batches of one digit, in random order', make=parts.ordered(True)),
    _noniid('batches fixed, digits mixed', deal=parts.mixed_once,
            make=parts.ordered()),
    _noniid('batches of one digit, in random order, lower rate', (-7,),
            make=parts.ordered(True)),
    _noniid('pixels -0.5 to 0.5, again', limit=600,
            read=tuple(readings.READINGS)),
    _noniid('pixels -1 to 1', (-8,), _pixels(-1, 1)),
    _noniid('weights sent as bfloat16', make=parts.sent_as(jnp.bfloat16)),
    _noniid('cohorts drawn with replacement', sampler=parts.with_replacement),
    _noniid('two different digits each', deal=parts.two_digits),
    _noniid('ten fixed cohorts in turn', sampler=parts.in_turn),
    _noniid('partition of seed 0', deal_seed=0),
    _noniid('partition of seed 1', deal_seed=1),
    _noniid('weights sent as float16', make=parts.sent_as(jnp.float16)),
    _noniid('rate falling by 0.5% a round', (-5,), make=parts.decayed(0.995)),
)
# What must not spoil the agreement of the IID cell.
IID = (
    Way('IID', 'batches fixed', _centered, (-6,), seeds=(0, 1),
        make=parts.ordered()),
)
WAYS = WEIGHTS_AND_PIXELS + NONIID[:1] + IID + NONIID[1:]
