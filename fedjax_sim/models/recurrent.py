"""A peephole LSTM layer with a backward pass of its own.

    i_t = sigmoid(x_t Wx_i + h_{t-1} Wh_i + b_i + p_i * c_{t-1})
    f_t = sigmoid(x_t Wx_f + h_{t-1} Wh_f + b_f + p_f * c_{t-1} + forget_bias)
    g_t = tanh(x_t Wx_g + h_{t-1} Wh_g + b_g)
    c_t = f_t * c_{t-1} + i_t * g_t
    o_t = sigmoid(x_t Wx_o + h_{t-1} Wh_o + b_o + p_o * c_t)
    h_t = o_t * tanh(c_t),    h_{-1} = c_{-1} = 0

Gers and Schmidhuber, "Recurrent Nets that Time and Count" (2000); the same
cell as TensorFlow 1's LSTMCell, with its use_peepholes and forget_bias.

The loop over time holds what has to be in it, one product with Wh a step and
direction: the inputs' products are one product before the loop, and the
gradients of all weights are one product or sum each after it. Left to
automatic differentiation, every step would add a matrix as large as Wh to its
gradient, and the step takes more than twice as long on a CPU.
"""

from typing import NamedTuple

import jax
import numpy as np
from jax import lax
from jax import numpy as jnp


def lstm(
    x: jax.Array,
    input_kernel: jax.Array,
    recurrent_kernel: jax.Array,
    bias: jax.Array,
    peepholes: jax.Array | None = None,
    *,
    forget_bias: float = 1.0,
) -> jax.Array:
  """Runs the layer over sequences, from a state of zeros.

  Gates lie in the order i, f, g, o along axes of 4H. h_t depends on x_0 … x_t
  alone, so padding at a sequence's end changes nothing before it.

  It has reverse mode only, once: no forward mode, no second derivatives.

  Args:
    x: float32 [B, T, F].
    input_kernel: float32 [F, 4H].
    recurrent_kernel: float32 [H, 4H].
    bias: float32 [4H].
    peepholes: float32 [3, H], the diagonal weights from the cell's state to
      i, f and o; None is a cell without them.
    forget_bias: added before f's sigmoid, a constant and no parameter.

  Returns:
    float32 [B, T, H], the h_t.

  Raises:
    ValueError: if the shapes don't fit each other.
  """
  _check_shapes(x, input_kernel, recurrent_kernel, bias, peepholes)
  width = recurrent_kernel.shape[0]
  if peepholes is None:
    peepholes = jnp.zeros((3, width), bias.dtype)
  bias = bias.at[width:2 * width].add(forget_bias)
  weights = _Weights(input_kernel, recurrent_kernel, bias, peepholes)
  return _layer(x.swapaxes(0, 1), weights).swapaxes(0, 1)


class _Weights(NamedTuple):
  """The arrays of a layer, as `lstm` takes them."""

  inputs: jax.Array
  recurrent: jax.Array
  bias: jax.Array
  peepholes: jax.Array


class _Slopes(NamedTuple):
  """What the backward loop multiplies by, for every step t.

  With dh and dc the gradients of h_t and c_t, the latter with what it gets by
  way of h_t and o_t, the gradients before the gates' nonlinearities are
  dc * gates (i, f, g) and dh * gates (o). Peepholes are part of `cell` and
  `carry`, and so cost the loop nothing.

  Attributes:
    gates: float32 [T, B, 4, H].
    cell: float32 [T, B, H], d c_t gains dh times this.
    carry: float32 [T, B, H], d c_{t-1} is dc times this.
  """

  gates: jax.Array
  cell: jax.Array
  carry: jax.Array


@jax.custom_vjp
def _layer(x, weights: _Weights):
  """x [T, B, F] -> h [T, B, H]."""
  return _forward(x, weights, lambda *cell: ())[0]


def _layer_forward(x, weights):
  h, c, slopes = _forward(
      x, weights, lambda *cell: (cell[0], _slopes(*cell)))
  return h, (x, weights, h, c, slopes)


def _forward(x, weights, keep):
  """The loop over time: (h, *what `keep` makes of each step), stacked."""
  steps, batch, _ = x.shape
  width = weights.recurrent.shape[0]
  peepholes = weights.peepholes[:, None]
  z = _product(_rows(x), weights.inputs) + weights.bias[None]

  def step(carry, z):
    h, c = carry
    z = z + _product(h, weights.recurrent)
    z_i, z_f, z_g, z_o = jnp.split(z, 4, axis=1)
    i = _sigmoid(z_i + peepholes[0] * c)
    f = _sigmoid(z_f + peepholes[1] * c)
    g = jnp.tanh(z_g)
    new_c = f * c + i * g
    o = _sigmoid(z_o + peepholes[2] * new_c)
    squashed = jnp.tanh(new_c)
    h = o * squashed
    return (h, new_c), (h, *keep(new_c, c, i, f, g, o, squashed, peepholes))

  zeros = jnp.zeros((batch, width), z.dtype)
  return lax.scan(
      step, (zeros, zeros), z.reshape(steps, batch, 4 * width))[1]


def _slopes(c, old_c, i, f, g, o, squashed, peepholes) -> _Slopes:
  """The `_Slopes` of one step; `squashed` is tanh(c)."""
  del c
  by_i = g * i * (1 - i)
  by_f = old_c * f * (1 - f)
  by_g = i * (1 - g * g)
  by_o = squashed * o * (1 - o)
  return _Slopes(
      jnp.stack([by_i, by_f, by_g, by_o], axis=1),
      o * (1 - squashed * squashed) + peepholes[2] * by_o,
      f + peepholes[0] * by_i + peepholes[1] * by_f)


def _layer_backward(residuals, dh):
  """The gradients of x and of the weights, from that of h [T, B, H]."""
  x, weights, h, c, slopes = residuals
  dz = _backward_loop(weights.recurrent.T, slopes, dh)
  rows = _rows(dz)
  return (_product(rows, weights.inputs.T).reshape(x.shape), _Weights(
      _product(_rows(x).T, rows),
      _product(_rows(_before(h)).T, rows),
      rows.sum(0),
      _peephole_gradients(c, dz)))


def _backward_loop(recurrent_transposed, slopes, dh):
  """The gradients before the gates' nonlinearities, [T, B, 4H]."""
  batch, width = dh.shape[1:]
  is_output_gate = np.arange(4)[None, :, None] == 3

  def step(carry, inputs):
    from_later, dc = carry
    slopes, dh = inputs
    dh = dh + from_later
    dc = dc + dh * slopes.cell
    dz = jnp.where(is_output_gate, dh[:, None], dc[:, None]) * slopes.gates
    dz = dz.reshape(batch, 4 * width)
    return (_product(dz, recurrent_transposed), dc * slopes.carry), dz

  zeros = jnp.zeros((batch, width), dh.dtype)
  return lax.scan(step, (zeros, zeros), (slopes, dh), reverse=True)[1]


def _peephole_gradients(c, dz):
  by_i, by_f, _, by_o = jnp.split(dz, 4, axis=-1)
  old_c = _before(c)
  return jnp.stack([
      (gradient * state).sum((0, 1))
      for gradient, state in ((by_i, old_c), (by_f, old_c), (by_o, c))])


_layer.defvjp(_layer_forward, _layer_backward)


def _sigmoid(z):
  # By tanh: for large |z| there is no overflow, and XLA has it vectorized.
  return 0.5 * jnp.tanh(0.5 * z) + 0.5


def _product(a, b):
  return lax.dot_general(a, b, (((1,), (0,)), ((), ())))


def _rows(x):
  """[T, B, …] as the rows of one matrix."""
  return x.reshape(-1, x.shape[-1])


def _before(states):
  """What the steps started from: states [T, B, H] shifted, zeros first."""
  return jnp.concatenate([jnp.zeros_like(states[:1]), states[:-1]])


def _check_shapes(x, input_kernel, recurrent_kernel, bias, peepholes):
  width = recurrent_kernel.shape[0]
  expected = {
      'x': (x, (*x.shape[:2], input_kernel.shape[0])),
      'input_kernel': (input_kernel, (input_kernel.shape[0], 4 * width)),
      'recurrent_kernel': (recurrent_kernel, (width, 4 * width)),
      'bias': (bias, (4 * width,)),
  }
  if peepholes is not None:
    expected['peepholes'] = peepholes, (3, width)
  for name, (array, shape) in expected.items():
    if array.shape != shape:
      raise ValueError(
          f'{name} must be of shape {list(shape)}, got {list(array.shape)}.')
