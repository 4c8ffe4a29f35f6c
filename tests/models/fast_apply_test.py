"""Fast convolutions and pooling in models that were written without them."""

import functools

import jax
import numpy as np
import optax
import pytest
from flax import linen as nn
from flax import nnx
from jax import lax
from jax import numpy as jnp
from jax.experimental import checkify
from jax.extend import core as jex_core

import fedjax_sim as fs
from fedjax_sim import models
from fedjax_sim.data import federated, sampling
from fedjax_sim.models import fast_apply
from fedjax_sim.simulation import build
from tests import toys

SLOW = {'conv_general_dilated', 'reduce_window_max', 'reduce_window_min',
        'reduce_window_sum', 'reduce_window', 'select_and_scatter_add',
        'select_and_gather_add'}


def primitives_of(jaxpr) -> set[str]:
  names = set()
  for eqn in jaxpr.eqns:
    names.add(eqn.primitive.name)
    for inner in jex_core.jaxprs_in_params(eqn.params):
      names |= primitives_of(inner)
  return names


def normal(seed, *shape):
  return np.float32(np.random.default_rng(seed).normal(size=shape))


def conv(x, k, **kwargs):
  kwargs = dict(window_strides=(1, 1), padding='SAME', dimension_numbers=(
      'NHWC', 'HWIO', 'NHWC')) | kwargs
  return lax.conv_general_dilated(x, k, **kwargs)


def max_pool(x, window=2, stride=2):
  return nn.max_pool(x, (window, window), (stride, stride))


@jax.custom_vjp
def own_vjp(x, k):
  return max_pool(conv(x, k))


# The backward rule is not the derivative, so it must be the one that is used.
own_vjp.defvjp(
    lambda x, k: (own_vjp(x, k), (x, k, conv(x, k))),
    lambda saved, g: (jnp.repeat(jnp.repeat(g, 2, 1), 2, 2),
                      2 * saved[1] * jnp.sum(conv(saved[0], saved[1])) / 99))


@jax.custom_jvp
def own_jvp(x, k):
  return conv(x, k)


@own_jvp.defjvp
def _(primals, tangents):
  (x, k), (dx, dk) = primals, tangents
  return conv(x, k), 3 * conv(dx, k) + conv(x, dk)


@jax.custom_batching.custom_vmap
def own_batching(x, k):
  return conv(x[None], k)[0]


@own_batching.def_vmap
def _(size, batched, x, k):
  del size
  assert batched == [True, False]
  return 3 * conv(x, k), True


def over_layers(k, x):
  return lax.scan(lambda h, k: (nn.relu(conv(h, k)), None), x, k)[0]


def repeated(k, x):
  return lax.fori_loop(0, 3, lambda _, h: jnp.tanh(conv(h, k)), x)


def torch_like(k, x):
  y = conv(x.transpose(0, 3, 1, 2), k, dimension_numbers=(
      'NCHW', 'OIHW', 'NCHW'))
  return lax.reduce_window(
      y, -jnp.inf, lax.max, (1, 1, 2, 2), (1, 1, 2, 2), 'VALID')


def one_example(k, x):
  # As in equinox: channels first, no batch.
  y = lax.conv_general_dilated(x.transpose(2, 0, 1)[None], k, (1, 1), 'SAME')
  return lax.reduce_window(
      y[0], -jnp.inf, lax.max, (1, 3, 3), (1, 2, 2), 'VALID')


# name: shape of the kernel, (kernel, [B, 8, 8, 4]) -> outputs [B, ...]
FUNCTIONS = {
    'plain': ((3, 3, 4, 5), lambda k, x: max_pool(nn.relu(conv(x, k)))),
    'overlapping': ((3, 3, 4, 5), lambda k, x: max_pool(conv(x, k), 3, 2)),
    'min_pool': ((3, 3, 4, 5), lambda k, x: -lax.reduce_window(
        conv(x, k), jnp.inf, lax.min, (1, 2, 3, 1), (1, 2, 1, 1), 'SAME')),
    'sums': ((3, 3, 4, 5), lambda k, x: nn.avg_pool(
        conv(x, k), (3, 3), (1, 1), 'SAME')),
    'long_window': ((3, 3, 4, 5), lambda k, x: nn.max_pool(
        conv(x, k).reshape(-1, 64, 5), (64,))),
    'strided': ((3, 3, 4, 5), lambda k, x: conv(x, k, window_strides=(2, 2))),
    'dilated': ((3, 3, 4, 5), lambda k, x: conv(x, k, rhs_dilation=(2, 1))),
    'depthwise': ((3, 3, 1, 8), lambda k, x: conv(
        x, k, feature_group_count=4)),
    'grouped': ((3, 3, 2, 6), lambda k, x: conv(x, k, feature_group_count=2)),
    'transposed': ((4, 4, 4, 5), lambda k, x: lax.conv_transpose(
        x, k, (2, 2), 'SAME')),
    'one_dimension': ((5, 4, 6), lambda k, x: conv(
        x.reshape(-1, 64, 4), k, window_strides=(1,),
        dimension_numbers=('NWC', 'WIO', 'NWC'))),
    'three_dimensions': ((2, 3, 3, 2, 6), lambda k, x: conv(
        x.reshape(-1, 2, 2, 8, 8), k, window_strides=(1, 1, 1),
        dimension_numbers=('NCDHW', 'DHWIO', 'NCDHW'))),
    'patches': ((4, 4, 4, 5), lambda k, x: conv(x, k, window_strides=(4, 4))),
    'channels_first': ((5, 4, 3, 3), torch_like),
    'by_example': ((5, 4, 3, 3), lambda k, x: jax.vmap(
        functools.partial(one_example, k))(x)),
    'jit': ((3, 3, 4, 5), lambda k, x: jax.jit(jax.jit(conv))(x, k)),
    'checkpoint': ((3, 3, 4, 4), lambda k, x: jax.checkpoint(
        lambda x: max_pool(conv(conv(x, k), k)))(x)),
    'checkpoint_policy': ((3, 3, 4, 4), lambda k, x: jax.checkpoint(
        lambda x: max_pool(conv(conv(x, k), k)),
        policy=jax.checkpoint_policies.dots_saveable)(x)),
    'scan': ((2, 3, 3, 4, 4), over_layers),
    'loop': ((3, 3, 4, 4), repeated),
    'cond': ((3, 3, 4, 4), lambda k, x: lax.cond(
        x.sum() < 1e9, lambda: max_pool(conv(x, k)), lambda: x[:, :4, ::2])),
    'custom_vjp': ((3, 3, 4, 4), lambda k, x: own_vjp(x, k)),
    'custom_jvp': ((3, 3, 4, 4), lambda k, x: own_jvp(x, k)),
    'all_inside': ((2, 3, 3, 4, 4), lambda k, x: jax.checkpoint(
        lambda x: jax.jit(lambda x: lax.scan(
            lambda h, k: (own_jvp(h, k), own_vjp(h, k)), x, k)[1])(x))(x)[1]),
}


def value_and_gradients(apply):
  def compute(params, x):
    y, pull = jax.vjp(lambda *args: apply(*args, train=True), params, x)
    return y, *pull(normal(3, *y.shape))
  return compute


@pytest.mark.parametrize('name', FUNCTIONS)
def test_equals_the_plain_function_and_holds_nothing_slow(name):
  shape, function = FUNCTIONS[name]
  def plain(k, x, *, train):
    assert train
    return function(k, x)
  k, x = normal(1, *shape), normal(2, 2, 8, 8, 4)
  fast = value_and_gradients(fast_apply.with_fast_forms(plain, 'train'))
  expected = jax.jit(value_and_gradients(plain))(k, x)
  for ours, theirs in zip(jax.jit(fast)(k, x), expected, strict=True):
    assert ours.dtype == theirs.dtype
    np.testing.assert_allclose(
        ours, theirs, rtol=1e-5, atol=1e-5 * np.abs(theirs).max())
    assert np.any(theirs)
  assert primitives_of(
      jax.make_jaxpr(value_and_gradients(plain))(k, x).jaxpr) & SLOW
  assert not primitives_of(jax.make_jaxpr(fast)(k, x).jaxpr) & SLOW


def test_the_rule_of_a_custom_batching_is_the_one_that_runs():
  def plain(k, x, *, train):
    return own_batching(x, k)
  k, x = normal(1, 3, 3, 4, 4), normal(2, 2, 8, 8, 4)
  over = lambda f: jax.vmap(functools.partial(f, train=True), (None, 0))
  fast = over(fast_apply.with_fast_forms(plain, 'train'))
  np.testing.assert_allclose(
      fast(k, x), over(plain)(k, x), rtol=1e-5, atol=1e-5)
  assert not primitives_of(jax.make_jaxpr(fast)(k, x).jaxpr) & SLOW
  assert primitives_of(jax.make_jaxpr(over(plain))(k, x).jaxpr) & SLOW


def test_windows_with_gaps_equal_those_of_lax_in_value():
  # lax has no gradient of these.
  def plain(x, *, train):
    return lax.reduce_window(
        x, -jnp.inf, lax.max, (1, 3, 2, 1), (1, 1, 2, 1), ((0, 0), (1, 0),
        (2, -1), (0, 0)), window_dilation=(1, 2, 3, 1))
  fast = fast_apply.with_fast_forms(plain, 'train')
  x = normal(2, 2, 8, 8, 4)
  np.testing.assert_array_equal(fast(x, train=True), plain(x, train=True))
  jaxpr = jax.make_jaxpr(functools.partial(fast, train=True))(x)
  assert not primitives_of(jaxpr.jaxpr) & SLOW


# What stays with lax.
KEPT = {
    'product': lambda k, x: lax.reduce_window(
        x, 1.0, lax.mul, (1, 2, 2, 1), (1, 2, 2, 1), 'VALID'),
    'other_start': lambda k, x: lax.reduce_window(
        x, 0.5, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), 'VALID'),
    'spread_inputs': lambda k, x: lax.reduce_window(
        x, -jnp.inf, lax.max, (1, 3, 2, 1), (1, 1, 1, 1), 'VALID',
        base_dilation=(1, 2, 1, 1)),
    'plain_sums': lambda k, x: nn.avg_pool(x, (2, 2), (2, 2)),
    'many_entries': lambda k, x: nn.max_pool(
        x.reshape(-1, 64, 4), (33,), (1,)),
    'batch_groups': lambda k, x: lax.conv_general_dilated(
        x, k, (1, 1), 'SAME', batch_group_count=2, dimension_numbers=(
            'NHWC', 'HWIO', 'NHWC')),
}


@pytest.mark.parametrize('name', KEPT)
def test_what_has_no_fast_form_stays(name):
  k, x = normal(1, 3, 3, 4, 6), normal(2, 2, 8, 8, 4)
  both = lambda k, x: (KEPT[name](k, x), conv(x, k))
  fast = fast_apply.with_fast_forms(lambda k, x, *, train: both(k, x), 'train')
  ours = jax.jit(functools.partial(fast, train=True))(k, x)
  expected = jax.jit(both)(k, x)
  np.testing.assert_array_equal(ours[0], expected[0])
  jaxpr = jax.make_jaxpr(functools.partial(fast, train=True))(k, x)
  assert len(primitives_of(jaxpr.jaxpr) & SLOW) == 1


def test_a_function_without_anything_slow_is_called_itself():
  calls = []
  def plain(w, x, *, train):
    calls.append(1)
    return x @ w
  fast = fast_apply.with_fast_forms(plain, 'train')
  w, x = normal(1, 4, 3), normal(2, 5, 4)
  for _ in range(3):
    jax.make_jaxpr(functools.partial(fast, train=True))(w, x)
  assert len(calls) == 4  # Once to look, then as if it were called directly.


def test_a_function_is_traced_once_for_its_shapes():
  calls = []
  def plain(k, x, *, train):
    calls.append(train)
    return conv(x, k)
  fast = fast_apply.with_fast_forms(plain, 'train')
  k, x = normal(1, 3, 3, 4, 5), normal(2, 2, 8, 8, 4)
  loss = lambda k, x: fast(k, x, train=True).sum()
  for _ in range(2):
    jax.make_jaxpr(jax.grad(loss))(k, x)
    jax.make_jaxpr(jax.vmap(jax.grad(loss)))(k[None], x[None])
  assert calls == [True]
  fast(k, x, train=False)
  fast(k, x[:1], train=False)
  assert calls == [True, False, False]


def test_weights_from_outside_are_not_kept_from_one_trace_to_the_next():
  # The function is a new one each time, as an adapter's is.
  x = normal(2, 2, 8, 8, 4)
  def outer(k):
    fast = fast_apply.with_fast_forms(
        lambda x, *, train: conv(x, k), 'train')
    return fast(x, train=True).sum()
  for seed in (1, 2):
    k = normal(seed, 3, 3, 4, 5)
    np.testing.assert_allclose(
        jax.jit(outer)(k), conv(x, k).sum(), rtol=1e-4, atol=1e-3)


def test_python_runs_as_it_is_where_jit_is_disabled():
  seen = []
  def plain(k, x, *, train):
    seen.append(isinstance(x, jax.core.Tracer))
    return conv(x, k)
  fast = fast_apply.with_fast_forms(plain, 'train')
  with jax.disable_jit():
    fast(normal(1, 3, 3, 4, 5), normal(2, 2, 8, 8, 4), train=True)
  assert seen == [False]


def test_effects_and_checks_are_kept():
  seen = []
  def plain(k, x, *, train):
    y = conv(x, k)
    jax.debug.callback(lambda v: seen.append(float(v)), x[0, 0, 0, 0])
    checkify.check(jnp.abs(y).max() < 1e6, 'too large')
    return y
  fast = fast_apply.with_fast_forms(plain, 'train')
  run = jax.jit(checkify.checkify(functools.partial(fast, train=True)))
  k, x = normal(1, 3, 3, 4, 5), np.ones((2, 8, 8, 4), np.float32)
  error, _ = run(k, x)
  assert error.get() is None
  error, _ = run(k, 1e9 * x)
  assert 'too large' in error.get()
  jax.effects_barrier()
  assert seen[0] == 1.0 and len(seen) == 2


def test_random_bits_are_the_same():
  def plain(k, x, *, key, train):
    bits = jax.random.bits(key, (4,))
    mask = jax.random.bernoulli(jax.random.fold_in(key, 3), 0.5, (8, 8, 4))
    return conv(jnp.where(mask, x, 0), k), bits, mask
  fast = fast_apply.with_fast_forms(plain, 'train')
  k, x = normal(1, 3, 3, 4, 5), normal(2, 2, 8, 8, 4)
  keys = jax.random.split(jax.random.key(5), 3)
  ours, theirs = (
      jax.jit(jax.vmap(lambda key, f=f: f(k, x, key=key, train=True)))(keys)
      for f in (fast, plain))
  jax.tree.map(np.testing.assert_array_equal, ours[1:], theirs[1:])
  np.testing.assert_allclose(ours[0], theirs[0], rtol=1e-4, atol=1e-4)


class Residual(nn.Module):
  """A convolution, and two with normalization and dropout around them."""

  @nn.compact
  def __call__(self, x, *, train):
    x = nn.Conv(8, (3, 3))(x)
    y = nn.Conv(8, (3, 3), use_bias=False)(x)
    y = nn.relu(nn.BatchNorm(use_running_average=not train)(y))
    y = nn.Dropout(0.5, deterministic=not train)(y)
    x = nn.max_pool(x + nn.Conv(8, (1, 1))(y), (2, 2), (2, 2))
    x = nn.avg_pool(x, (2, 2), (1, 1))
    return nn.Dense(10)(x.reshape(x.shape[0], -1))


class Scanned(nn.Module):
  """Convolutions with remat, scanned over."""

  @nn.compact
  def __call__(self, x):
    x = nn.Conv(8, (5, 5))(x)
    class Layer(nn.Module):
      @nn.compact
      def __call__(self, x, _):
        return nn.relu(nn.Conv(8, (3, 3))(x)), None
    layers = nn.scan(
        nn.remat(Layer), variable_axes={'params': 0},
        split_rngs={'params': True}, length=3)
    x, _ = layers()(x, None)
    return nn.Dense(10)(nn.max_pool(x, (8, 8)).reshape(x.shape[0], -1))


class Nnx(nnx.Module):
  """As `Residual`, of nnx, and transposed."""

  def __init__(self, rngs: nnx.Rngs):
    self.first = nnx.Conv(3, 8, (3, 3), rngs=rngs)
    self.norm = nnx.BatchNorm(8, rngs=rngs)
    self.up = nnx.ConvTranspose(8, 4, (4, 4), (2, 2), rngs=rngs)
    self.depthwise = nnx.Conv(4, 4, (3, 3), feature_group_count=4, rngs=rngs)
    self.dropout = nnx.Dropout(0.5, rngs=rngs)
    self.out = nnx.Linear(4 * 64, 10, rngs=rngs)

  def __call__(self, x):
    x = nnx.max_pool(nnx.relu(self.norm(self.first(x))), (2, 2), (2, 2))
    x = self.dropout(nnx.relu(self.depthwise(self.up(x))))
    return self.out(x.reshape(x.shape[0], -1))


def plain_cnn(params, x):
  x = nn.relu(conv(x, params['conv']))
  return max_pool(x).reshape(x.shape[0], -1) @ params['dense']


def init_plain(key, x):
  k1, k2 = jax.random.split(key)
  return {'conv': 0.1 * jax.random.normal(k1, (3, 3, 3, 6)),
          'dense': 0.1 * jax.random.normal(k2, (16 * 6, 10))}


# (fast_convolutions) -> Model, of inputs [B, 8, 8, 3]
MODELS = {
    'residual': lambda fast: models.from_linen(
        Residual(), fast_convolutions=fast),
    'scanned': lambda fast: models.from_linen(
        Scanned(), fast_convolutions=fast),
    'nnx': lambda fast: models.from_nnx(Nnx, fast_convolutions=fast),
    'functions': lambda fast: models.from_functions(
        init_plain, plain_cnn, fast_convolutions=fast),
}


def step(model, variables, x, key):
  def loss(params):
    outputs, state = model.run(
        variables._replace(params=params), x, key=key, train=True,
        mask=jnp.arange(6) < 5)
    losses = model.loss(outputs, {'y': jnp.arange(6)})
    return jnp.sum(losses[:5]), (outputs[:5], state)
  gradient, aux = jax.grad(loss, has_aux=True)(variables.params)
  return aux, gradient, model.run(variables, x)[0]


@pytest.mark.parametrize('name', MODELS)
def test_a_model_equals_the_one_that_opted_out(name):
  fast, plain = MODELS[name](True), MODELS[name](False)
  x, key = normal(2, 6, 8, 8, 3), jax.random.key(7)
  variables = jax.jit(plain.init)(jax.random.key(0), x)
  jax.tree.map(np.testing.assert_array_equal, variables,
               jax.jit(fast.init)(jax.random.key(0), x))
  ours, theirs = (
      jax.jit(functools.partial(step, model))(variables, x, key)
      for model in (fast, plain))
  jax.tree.map(
      lambda a, b: np.testing.assert_allclose(
          a, b, rtol=1e-5, atol=1e-5 * max(1.0, np.abs(b).max())),
      ours, theirs)
  jaxprs = [primitives_of(jax.make_jaxpr(functools.partial(step, model))(
      variables, x, key).jaxpr) for model in (fast, plain)]
  assert not jaxprs[0] & SLOW
  assert jaxprs[1] & SLOW


def test_the_compiled_round_of_a_plain_module_holds_nothing_slow():
  class Plain(nn.Module):
    @nn.compact
    def __call__(self, x):
      for features in (4, 8):
        x = nn.relu(nn.Conv(features, (3, 3))(x))
        x = nn.max_pool(x, (2, 2), (2, 2))
      return nn.Dense(10)(x.reshape(x.shape[0], -1))

  train = federated.federate(
      {'x': normal(1, 18, 8, 8, 3), 'y': np.arange(18) % 10},
      toys.partition_of((6, 6, 6)))
  def program(**options):
    model = models.from_linen(Plain(), **options)
    simulation = build.build(
        model, fs.algorithms.fedavg(
            model, batch_size=2, client_optimizer=optax.sgd(0.1)),
        train, sampling.uniform(3, 2, 0), devices=2, lanes=1)
    return simulation.program.traced.lower().as_text()
  slow = ('stablehlo.convolution', 'stablehlo.reduce_window',
          'stablehlo.select_and_scatter')
  assert not any(word in program() for word in slow)
  assert all(word in program(fast_convolutions=False)
             for word in (slow[0], slow[2]))


def test_the_option_must_be_a_flag():
  with pytest.raises(ValueError, match='fast_convolutions must be True or'):
    models.from_linen(Residual(), fast_convolutions='no')
