"""How exactly products of float32 are computed: matrices, convolutions.

Weights, sums and all else are float32 in any case. `precision` says to how many
bits the factors of a product may be rounded first:

  'highest'        float32's 24 bits
  'tensorfloat32'  11 bits (TensorFloat-32), of a GPU; a TPU takes three
                   products of bfloat16 for one, about 16 bits
  'bfloat16'       8 bits, of a TPU

A CPU computes 'highest' and 'tensorfloat32' alike, in float32. Products of
other dtypes, integers among them, and those of a layer that asks for a
precision of its own, are as they would be without.

JAX's own default is a matter of the device, and of what a user has set for the
process (`jax_default_matmul_precision`). A program of ours carries what it was
asked for; asked for 'auto', what the process is set to, and else the device's
default.
"""

import contextlib

import jax

from fedjax_sim.core import checks

CHOICES = ('auto', 'highest', 'tensorfloat32', 'bfloat16')

# JAX's names for the whole process; its 'default' and 'bfloat16' are what a
# device does by itself.
_OF_JAX = {
    'highest': 'highest', 'float32': 'highest', 'high': 'tensorfloat32',
    'tensorfloat32': 'tensorfloat32', 'default': 'auto', 'bfloat16': 'auto',
    None: 'auto'}

# As JAX does where nothing is said.
_DEFAULTS = {'cpu': 'highest', 'gpu': 'tensorfloat32', 'tpu': 'bfloat16'}

# What each platform has, in JAX's words. A CPU computes in float32 whatever it
# is asked for; asked for nothing, its convolutions may take minimal filtering.
# A GPU's own choice is TensorFloat-32, in all of XLA's kernels. bfloat16 is for
# a TPU alone: its rounding shows in what is learned, so nothing stands in for
# it.
_LEVELS = {
    'cpu': {'highest': 'default', 'tensorfloat32': 'default'},
    'gpu': {'highest': 'highest', 'tensorfloat32': 'default'},
    'tpu': {'highest': 'highest', 'tensorfloat32': 'high',
            'bfloat16': 'default'},
}


def resolved(precision: str, platform: str) -> str:
  """The precision, 'auto' replaced by the platform's default.

  Raises:
    ValueError: there is no such precision, or not on this platform.
  """
  checks.one_of('precision', precision, CHOICES)
  if precision == 'auto' and platform != 'cpu':
    precision = _of_process()
  if precision == 'auto':
    return _DEFAULTS.get(platform, 'highest')
  valid = _levels(platform)
  if precision not in valid:
    raise ValueError(
        f"precision must be 'auto', {' or '.join(map(repr, valid))} on a "
        f'{platform.upper()}, got {precision!r}.')
  return precision


def _of_process() -> str:
  """What a user has set for the process."""
  setting = jax.config.jax_default_matmul_precision
  if setting not in _OF_JAX:
    raise ValueError(
        "precision must be named where jax_default_matmul_precision is that of "
        f"no product of ours: {' or '.join(map(repr, CHOICES[1:]))} beside "
        f"{setting!r}, got 'auto'.")
  return _OF_JAX[setting]


def computed(
    precision: str, platform: str
) -> contextlib.AbstractContextManager:
  """What is traced meanwhile for the platform multiplies like that.

  Args:
    precision: as `resolved` gives it.
    platform: 'cpu', 'gpu' or 'tpu'.
  """
  return jax.default_matmul_precision(_levels(platform)[precision])


def _levels(platform: str) -> dict[str, str]:
  """Precision -> JAX's word for it; on an unknown platform as on a TPU."""
  return _LEVELS.get(platform, _LEVELS['tpu'])
