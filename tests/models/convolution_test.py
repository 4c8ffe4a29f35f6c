"""Convolution as matrix products, against lax.

Inputs are small whole numbers, so that every sum is exact in float32 and
results must be equal to the last bit, whatever the order of summation.
"""

import functools

import jax
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx
from jax import lax
from jax import numpy as jnp

from fedjax_sim.core import compilation
from fedjax_sim.models import convolution

LAST = {1: ('NWC', 'WIO', 'NWC'), 2: ('NHWC', 'HWIO', 'NHWC'),
        3: ('NDHWC', 'DHWIO', 'NDHWC')}

# name: sizes, kernel, c_in, c_out, strides, padding, dilation, groups
CASES = {
    'mnist_first': ((8, 8), (5, 5), 1, 4, (1, 1), 'SAME', None, 1),
    'mnist_second': ((7, 6), (5, 5), 16, 8, (1, 1), 'SAME', None, 1),
    'many_inputs': ((6, 7), (3, 3), 32, 3, (1, 1), 'VALID', None, 1),
    'even_kernel': ((6, 5), (4, 2), 40, 3, (1, 1), 'SAME', None, 1),
    'same_lower': ((6, 5), (4, 2), 40, 3, (1, 1), 'SAME_LOWER', None, 1),
    'strides': ((9, 8), (3, 3), 3, 4, (2, 3), 'SAME', None, 1),
    'strides_many': ((9, 8), (3, 3), 30, 4, (2, 1), 'SAME', None, 1),
    'stride_columns': ((7, 8), (3, 3), 30, 4, (1, 2), 'SAME', None, 1),
    'one_by_one': ((4, 4), (1, 1), 70, 4, (1, 1), 'SAME', None, 1),
    'row_kernel': ((5, 6), (1, 5), 20, 3, (1, 1), 'SAME', None, 1),
    'explicit_many': ((5, 6), (3, 3), 30, 3, (1, 1), ((2, 0), (0, 3)), None,
                      1),
    'crop_many': ((7, 8), (3, 3), 30, 3, (1, 1), ((-1, 0), (1, -2)), None, 1),
    'dilation': ((8, 9), (3, 2), 2, 3, (1, 1), 'SAME', (2, 3), 1),
    'dilation_many': ((8, 9), (3, 3), 30, 3, (1, 1), 'VALID', (2, 3), 1),
    'groups': ((6, 7), (3, 3), 6, 4, (1, 1), 'SAME', None, 2),
    'groups_strided': ((6, 7), (3, 3), 6, 9, (2, 1), 'VALID', (1, 2), 3),
    'depthwise': ((6, 7), (3, 3), 5, 5, (1, 1), 'SAME', None, 5),
    'depthwise_twice': ((6, 7), (3, 3), 5, 10, (2, 2), 'SAME', None, 5),
    'blocks': ((8, 9), (2, 3), 3, 4, (2, 3), 'VALID', None, 1),
    'blocks_rest': ((9, 8), (2, 3), 3, 4, (2, 3), 'VALID', None, 1),
    'blocks_padded': ((7, 7), (4, 4), 3, 4, (4, 4), 'SAME', None, 1),
    'one_dimension': ((9,), (4,), 3, 5, (1,), 'SAME', None, 1),
    'one_dimension_many': ((9,), (4,), 70, 5, (1,), 'VALID', (2,), 1),
    'three_dimensions': ((4, 5, 3), (2, 3, 2), 2, 3, (1, 2, 1), 'SAME', None,
                         1),
    'three_dimensions_many': ((4, 5, 3), (2, 3, 2), 12, 3, (1, 2, 1), 'SAME',
                              None, 1),
    'exactly_one_window': ((3, 3), (3, 3), 2, 3, (1, 1), 'VALID', None, 1),
}


def whole(seed, *shape):
  rng = np.random.default_rng(seed)
  return np.float32(rng.integers(-3, 4, shape))


def compiled(convolve, x, k, **arguments):
  return jax.jit(functools.partial(convolve, **arguments))(x, k)


def problem(name, batch=3):
  sizes, kernel, c_in, c_out, strides, padding, dilation, groups = CASES[name]
  x = whole(1, batch, *sizes, c_in)
  k = whole(2, *kernel, c_in // groups, c_out)
  arguments = dict(
      window_strides=strides, padding=padding, rhs_dilation=dilation,
      dimension_numbers=LAST[len(sizes)], feature_group_count=groups)
  return x, k, arguments


def value_and_gradients(convolve, **arguments):
  def compute(x, k):
    y, pull = jax.vjp(functools.partial(convolve, **arguments), x, k)
    return y, *pull(whole(3, *y.shape))
  return jax.jit(compute)


@pytest.fixture
def no_fallback(monkeypatch):
  """Makes lax's convolution fail, once the reference has been taken."""
  def forbid():
    def fail(*args, **kwargs):
      raise AssertionError('fell back on lax.conv_general_dilated')
    monkeypatch.setattr(lax, 'conv_general_dilated', fail)
  return forbid


@pytest.mark.parametrize('name', CASES)
def test_equals_lax_in_value_and_gradients(name, no_fallback):
  x, k, arguments = problem(name)
  expected = value_and_gradients(lax.conv_general_dilated, **arguments)(x, k)
  no_fallback()
  ours = value_and_gradients(
      convolution.conv_general_dilated, **arguments)(x, k)
  for a, b in zip(ours, expected, strict=True):
    assert a.dtype == b.dtype
    np.testing.assert_array_equal(a, b)
    assert np.any(a != 0)


@pytest.mark.parametrize(
    'name', ['mnist_first', 'mnist_second', 'strides', 'groups', 'depthwise'])
def test_equals_lax_under_vmap_over_kernels(name):
  x, k, arguments = problem(name)
  xs, ks = whole(4, 3, *x.shape), whole(5, 3, *k.shape)
  ours = jax.jit(jax.vmap(value_and_gradients(
      convolution.conv_general_dilated, **arguments)))(xs, ks)
  reference = value_and_gradients(lax.conv_general_dilated, **arguments)
  for i in range(3):
    expected = reference(xs[i], ks[i])
    for a, b in zip(ours, expected, strict=True):
      np.testing.assert_array_equal(np.asarray(a)[i], b)


@pytest.mark.parametrize('name', [
    'mnist_second', 'strides_many', 'explicit_many', 'dilation', 'one_by_one',
    'blocks', 'groups', 'one_dimension_many', 'three_dimensions'])
def test_a_tpu_takes_its_own_where_products_are_no_better(name):
  x, k, arguments = problem(name)
  expected = value_and_gradients(lax.conv_general_dilated, **arguments)(x, k)
  with compilation.target('tpu'):
    ours = value_and_gradients(convolution.conv_general_dilated, **arguments)
    jaxpr = str(jax.make_jaxpr(ours)(x, k))
    ours = ours(x, k)
  for a, b in zip(ours, expected, strict=True):
    np.testing.assert_array_equal(a, b)
  products = name in ('one_by_one', 'blocks', 'groups')
  assert ('conv_general_dilated' in jaxpr) != products


def test_narrow_numbers_have_the_same_gradients_on_a_tpu():
  x, k, arguments = problem('mnist_second')
  x, k = x.astype(jnp.bfloat16), k.astype(jnp.bfloat16)

  def gradients():
    return jax.grad(lambda x, k: jnp.sum(convolution.conv_general_dilated(
        x, k, preferred_element_type=jnp.float32, **arguments)), (0, 1))(x, k)

  with compilation.target('tpu'):
    ours = gradients()
  for a, b in zip(ours, gradients(), strict=True):
    assert a.dtype == jnp.bfloat16
    np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize('name', ['mnist_first', 'mnist_second', 'groups'])
def test_forward_mode_equals_lax(name):
  x, k, arguments = problem(name)
  tangents = whole(6, *x.shape), whole(7, *k.shape)
  ours, expected = (
      jax.jit(functools.partial(jax.jvp, functools.partial(f, **arguments)))(
          (x, k), tangents)
      for f in (convolution.conv_general_dilated, lax.conv_general_dilated))
  for a, b in zip(ours, expected, strict=True):
    np.testing.assert_array_equal(a, b)


def test_large_and_small_kernels_take_different_forms():
  # Otherwise the cases above would try one form only.
  def widest(name):
    x, k, arguments = problem(name)
    jaxpr = jax.make_jaxpr(functools.partial(
        convolution.conv_general_dilated, **arguments))(x, k)
    products = [e for e in jaxpr.jaxpr.eqns if e.primitive.name ==
                'dot_general']
    assert len(products) == 1
    return products[0].invars[0].aval.shape[-1]

  assert widest('mnist_first') == 5 * 5 * 1
  assert widest('mnist_second') == 5 * 16


# All axes of one length, so that the arrays fit any layout.
LAYOUTS = {
    'channels_first': ('NCHW', 'HWIO', 'NCHW'),
    'torch': ('NCHW', 'OIHW', 'NCHW'),
    'mixed': ('NHWC', 'HWIO', 'NCHW'),
    'turned': ('WNHC', 'IHWO', 'CWHN'),
    'default': None,
}


@pytest.mark.parametrize('name', LAYOUTS)
def test_all_layouts_equal_lax(name, no_fallback):
  x, k = whole(1, 4, 4, 4, 4), whole(2, 4, 4, 4, 4)
  arguments = dict(window_strides=(1, 2), padding=((1, 2), (2, 1)),
                   dimension_numbers=LAYOUTS[name])
  expected = value_and_gradients(lax.conv_general_dilated, **arguments)(x, k)
  no_fallback()
  ours = value_and_gradients(
      convolution.conv_general_dilated, **arguments)(x, k)
  jax.tree.map(np.testing.assert_array_equal, ours, expected)


# sizes, kernel, input dilation, padding, strides, kernel dilation, groups
TRANSPOSED = {
    'twice': ((4, 5), (4, 4), (2, 2), ((2, 2), (2, 2)), (1, 1), (1, 1), 1),
    'odd': ((4, 5), (3, 5), (2, 3), ((1, 2), (3, 1)), (1, 1), (1, 1), 1),
    'crop': ((4, 5), (3, 3), (2, 1), ((-2, 0), (1, -1)), (1, 1), (1, 1), 1),
    'threes': ((3, 3), (3, 3), (3, 2), ((2, 2), (1, 2)), (1, 1), (1, 1), 1),
    'groups': ((4, 5), (4, 4), (2, 2), ((2, 2), (2, 2)), (1, 1), (1, 1), 2),
    'small': ((4, 5), (1, 2), (2, 3), ((0, 1), (1, 1)), (1, 1), (1, 1), 1),
    'strides': ((4, 5), (3, 3), (2, 2), ((1, 1), (2, 1)), (3, 1), (1, 1), 1),
    'dilation': ((4, 5), (3, 3), (2, 2), ((2, 2), (2, 2)), (1, 1), (3, 2), 1),
    'one_dimension': ((6,), (4,), (2,), ((2, 2),), (1,), (1,), 1),
}


@pytest.mark.parametrize('name', TRANSPOSED)
def test_transposed_equals_lax(name, no_fallback):
  sizes, kernel, stretch, padding, strides, dilation, groups = TRANSPOSED[name]
  x, k = whole(1, 2, *sizes, 4), whole(2, *kernel, 4 // groups, 6)
  arguments = dict(
      window_strides=strides, padding=padding, lhs_dilation=stretch,
      rhs_dilation=dilation, dimension_numbers=LAST[len(sizes)],
      feature_group_count=groups)
  expected = value_and_gradients(lax.conv_general_dilated, **arguments)(x, k)
  no_fallback()
  ours = value_and_gradients(
      convolution.conv_general_dilated, **arguments)(x, k)
  jax.tree.map(np.testing.assert_array_equal, ours, expected)


def test_a_transposed_convolution_multiplies_no_zeros():
  x, k = jnp.zeros((1, 6, 6, 3)), jnp.zeros((4, 4, 3, 5))
  jaxpr = jax.make_jaxpr(lambda x, k: convolution.conv_general_dilated(
      x, k, (1, 1), ((2, 2), (2, 2)), lhs_dilation=(2, 2),
      dimension_numbers=LAST[2]))(x, k)
  rows = [eqn.invars[0].aval.shape for eqn in jaxpr.eqns
          if eqn.primitive.name == 'dot_general']
  # Of 16 taps 4 meet an input for each of the 12 * 12 outputs.
  assert sum(m * n for m, n in rows) <= 12 * 12 * 4 * 3


def test_batch_groups_are_handed_to_lax(monkeypatch):
  x, k = whole(1, 4, 4, 4, 4), whole(2, 4, 4, 4, 4)
  arguments = dict(
      window_strides=(1, 1), padding=((1, 2), (2, 1)), batch_group_count=2,
      dimension_numbers=LAST[2])
  reference = lax.conv_general_dilated
  expected = reference(x, k, **arguments)
  calls = []

  def spy(*args, **kwargs):
    calls.append(1)
    return reference(*args, **kwargs)

  monkeypatch.setattr(lax, 'conv_general_dilated', spy)
  ours = convolution.conv_general_dilated(x, k, **arguments)
  assert calls
  np.testing.assert_array_equal(ours, expected)


def test_an_output_without_elements_is_that_of_lax():
  x, k = whole(1, 2, 3, 3, 1), whole(2, 5, 5, 1, 2)
  y = convolution.conv_general_dilated(
      x, k, (1, 1), 'VALID', dimension_numbers=LAST[2])
  expected = lax.conv_general_dilated(
      x, k, (1, 1), 'VALID', dimension_numbers=LAST[2])
  assert y.shape == expected.shape == (2, 0, 0, 2)


@pytest.mark.filterwarnings('ignore:divide by zero')
@pytest.mark.parametrize('change', [
    dict(kernel=(3, 3, 5, 2)),
    dict(kernel=(3, 3, 2)),
    dict(window_strides=(1,)),
    dict(window_strides=(0, 1)),
    dict(padding=((1, 1),)),
    dict(rhs_dilation=(1,)),
    dict(rhs_dilation=(0, 1)),
    dict(feature_group_count=3),
    dict(feature_group_count=2, kernel=(3, 3, 2, 3)),
    dict(feature_group_count=0),
], ids=str)
def test_misfits_raise_the_error_of_lax(change):
  arguments = dict(
      lhs=whole(1, 2, 6, 6, 4), window_strides=(1, 1), padding='SAME',
      dimension_numbers=LAST[2]) | change
  arguments['rhs'] = whole(2, *arguments.pop('kernel', (3, 3, 4, 2)))
  with pytest.raises((TypeError, ValueError)) as expected:
    lax.conv_general_dilated(**arguments)
  with pytest.raises(expected.type) as ours:
    convolution.conv_general_dilated(**arguments)
  messages = [str(error.value).split('at loc')[0]  # Which line called it.
              for error in (ours, expected)]
  assert messages[0] == messages[1]


@pytest.mark.parametrize(
    'name', ['mnist_second', 'many_inputs', 'groups', 'depthwise'])
def test_narrow_types_are_summed_in_float32(name):
  x, k, arguments = problem(name)
  x, k = x + 40, k + 40  # Sums far above 256, where bfloat16 skips numbers.
  exact = compiled(lax.conv_general_dilated, x, k, **arguments)
  narrow = x.astype(jnp.bfloat16), k.astype(jnp.bfloat16)
  y = compiled(convolution.conv_general_dilated, *narrow, **arguments)
  assert y.dtype == jnp.bfloat16
  np.testing.assert_array_equal(y, exact.astype(jnp.bfloat16))


def test_preferred_element_type_is_that_of_the_result():
  x, k, arguments = problem('mnist_second')
  exact = compiled(lax.conv_general_dilated, x + 40, k, **arguments)
  y = compiled(
      convolution.conv_general_dilated, (x + 40).astype(jnp.bfloat16),
      k.astype(jnp.bfloat16),
      preferred_element_type=jnp.float32, **arguments)
  assert y.dtype == jnp.float32
  np.testing.assert_array_equal(y, exact)


@pytest.mark.parametrize('name', ['mnist_second', 'groups', 'depthwise'])
def test_small_integers_are_summed_in_the_preferred_type(name):
  x, k, arguments = problem(name)
  exact = compiled(lax.conv_general_dilated, x + 40, k + 40, **arguments)
  y = compiled(
      convolution.conv_general_dilated, (x + 40).astype(jnp.int8),
      (k + 40).astype(jnp.int8),
      preferred_element_type=jnp.int32, **arguments)
  assert y.dtype == jnp.int32
  np.testing.assert_array_equal(y, exact.astype(jnp.int32))


@pytest.mark.parametrize('options', [
    dict(kernel_size=(5, 5), features=4),
    dict(kernel_size=(3, 3), features=4, strides=2, padding='VALID'),
    dict(kernel_size=(3, 3), features=4, padding='CIRCULAR'),
    dict(kernel_size=(3, 3), features=4, kernel_dilation=2, padding=1),
    dict(kernel_size=(3, 3), features=4, input_dilation=2, padding=1),
    dict(kernel_size=(3, 3), features=4, feature_group_count=2,
         precision='highest', use_bias=False),
    dict(kernel_size=(3,), features=4, padding='CAUSAL'),
], ids=str)
def test_flax_layers_take_it(options):
  x = whole(1, 2, *(6,) * len(options['kernel_size']), 4)
  plain = nn.Conv(**options)
  ours = nn.Conv(
      **options, conv_general_dilated=convolution.conv_general_dilated)
  shapes = jax.eval_shape(plain.init, jax.random.key(0), x)
  variables = jax.tree.map(lambda leaf: whole(2, *leaf.shape), shapes)
  np.testing.assert_array_equal(
      jax.jit(ours.apply)(variables, x), jax.jit(plain.apply)(variables, x))

  options = dict(options)
  make = functools.partial(
      nnx.Conv, 4, options.pop('features'), **options, rngs=nnx.Rngs(0))
  theirs = make()
  ours = make(conv_general_dilated=convolution.conv_general_dilated)
  for layer in (theirs, ours):
    layer.kernel[...] = variables['params']['kernel']
  run = nnx.jit(nnx.Conv.__call__)
  np.testing.assert_array_equal(run(ours, x), run(theirs, x))
