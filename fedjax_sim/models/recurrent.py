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
gradient (benchmarks/kernels.py measures what that costs).
"""

from typing import NamedTuple

import jax
from jax import lax
from jax import numpy as jnp

from fedjax_sim.core import compilation


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
  """What the backward loop multiplies by, each float32 [T, B, H].

  With dh and dc the gradients of h_t and c_t, the latter with what it gets by
  way of h_t and o_t, the gradients before the gates' nonlinearities are dc
  times `i`, `f` and `g`, and dh times `o`. Peepholes are part of `cell` and
  `carry`, and so cost the loop nothing.

  Attributes:
    i: see above.
    f: see above.
    g: see above.
    o: see above.
    cell: dc gains dh times this.
    carry: the gradient of c_{t-1} is dc times this.
  """

  i: jax.Array
  f: jax.Array
  g: jax.Array
  o: jax.Array
  cell: jax.Array
  carry: jax.Array


@jax.custom_vjp
def _layer(x, weights: _Weights):
  """x [T, B, F] -> h [T, B, H]."""
  return _forward(x, weights)[0]


def _layer_forward(x, weights):
  h, c, z = _forward(x, weights)
  return h, (x, weights, h, c, z)


def _layer_backward(residuals, dh):
  """The gradients of x and of the weights, from that of h [T, B, H]."""
  x, weights, h, c, z = residuals
  dz = _backward_loop(
      weights.recurrent.T, _slopes(c, z, weights.peepholes), dh)
  rows = _rows(dz)
  return (_product(rows, weights.inputs.T).reshape(x.shape), _Weights(
      _product(_rows(x).T, rows),
      _product(_rows(_before(h)).T, rows),
      rows.sum(0),
      _peephole_gradients(c, dz)))


_layer.defvjp(_layer_forward, _layer_backward)


def _forward(x, weights):
  """The loop over time: h, c [T, B, H], and the gates' z [T, B, 4H].

  z holds the sums before the nonlinearities, without the peepholes' terms.
  The backward pass takes the nonlinearities again, for all t at once: on a CPU
  that is cheaper than to store their values inside of the loop.
  """
  steps, batch, _ = x.shape
  width = weights.recurrent.shape[0]
  z = _product(_rows(x), weights.inputs)

  def step(carry, z):
    h, old_c = carry
    z = z + _product(h, weights.recurrent) + weights.bias[None]
    i, f, g = _input_gates(z, old_c, weights.peepholes)
    c = f * old_c + i * g
    h = _output_gate(z, c, weights.peepholes) * jnp.tanh(c)
    return (h, c), (h, c, z)

  zeros = jnp.zeros((batch, width), z.dtype)
  return lax.scan(
      step, (zeros, zeros), z.reshape(steps, batch, 4 * width),
      unroll=_unroll())[1]


def _input_gates(z, old_c, peepholes):
  """i, f and g, from z [..., 4H] and c_{t-1} [..., H]."""
  z_i, z_f, z_g, _ = jnp.split(z, 4, axis=-1)
  p_i, p_f, _ = _like(peepholes, old_c)
  # One tanh of a whole array: of slices it takes XLA's CPU backend twice as
  # long. sigmoid(z) = (1 + tanh(z / 2)) / 2.
  i, f, g = jnp.tanh(jnp.stack(
      [0.5 * (z_i + p_i * old_c), 0.5 * (z_f + p_f * old_c), z_g]))
  return 0.5 * i + 0.5, 0.5 * f + 0.5, g


def _output_gate(z, c, peepholes):
  """o, from z [..., 4H] and c_t [..., H]."""
  z_o = jnp.split(z, 4, axis=-1)[3]
  return 0.5 * jnp.tanh(0.5 * (z_o + _like(peepholes, c)[2] * c)) + 0.5


def _slopes(c, z, peepholes) -> _Slopes:
  old_c = _before(c)
  i, f, g = _input_gates(z, old_c, peepholes)
  o = _output_gate(z, c, peepholes)
  squashed = jnp.tanh(c)
  by_i = g * i * (1 - i)
  by_f = old_c * f * (1 - f)
  by_o = squashed * o * (1 - o)
  p_i, p_f, p_o = _like(peepholes, c)
  return _Slopes(
      by_i, by_f, i * (1 - g * g), by_o,
      cell=o * (1 - squashed * squashed) + p_o * by_o,
      carry=f + p_i * by_i + p_f * by_f)


def _backward_loop(recurrent_transposed, slopes, dh):
  """The gradients of z, [T, B, 4H]."""

  def step(carry, inputs):
    from_later, dc = carry
    slopes, dh = inputs
    dh = dh + from_later
    dc = dc + dh * slopes.cell
    dz = jnp.concatenate(
        [dc * slopes.i, dc * slopes.f, dc * slopes.g, dh * slopes.o], axis=1)
    return (_product(dz, recurrent_transposed), dc * slopes.carry), dz

  zeros = jnp.zeros_like(dh[0])
  return lax.scan(
      step, (zeros, zeros), (slopes, dh), reverse=True, unroll=_unroll())[1]


def _unroll() -> int:
  """Time steps in one turn of the loop.

  A GPU launches kernels for each turn's own bookkeeping; a CPU has none. A
  local step of the character LSTM, T = 80, is 978 kernels on an H100. With 16
  time steps in a turn it would be 888, but these would move 9.3 GB instead of
  7.8 (`benchmarks/compiled`).
  """
  return 8 if compilation.platform() == 'gpu' else 1


def _peephole_gradients(c, dz):
  by_i, by_f, _, by_o = jnp.split(_rows(dz), 4, axis=1)
  old_c, c = _rows(_before(c)), _rows(c)
  total = lambda gradient, state: jnp.einsum('nh,nh->h', gradient, state)
  return jnp.stack([total(by_i, old_c), total(by_f, old_c), total(by_o, c)])


def _like(peepholes, c):
  """Peepholes [3, H] with the axes of c [..., H], to multiply it."""
  return peepholes.reshape(3, *(1,) * (c.ndim - 1), -1)


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
