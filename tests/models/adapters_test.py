"""One suite for all adapters: what `Model` promises, whatever it is made of."""

import functools

import jax
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx
from jax import lax
from jax import numpy as jnp

from fedjax_sim import models
from fedjax_sim.core import types

INPUTS, HIDDEN, CLASSES = 6, 16, 3
TREE = jax.tree_util


class LinenNet(nn.Module):
  norm: bool = False
  rate: float = 0.0

  @nn.compact
  def __call__(self, x, train):
    x = nn.Dense(HIDDEN)(x)
    if self.norm:
      x = nn.BatchNorm(use_running_average=not train, momentum=0.9)(x)
    x = nn.Dropout(self.rate, deterministic=not train)(nn.relu(x))
    return nn.Dense(CLASSES)(x)


class NnxNet(nnx.Module):

  def __init__(self, norm, rate, *, rngs):
    self.layers = nnx.List([
        nnx.Linear(INPUTS, HIDDEN, rngs=rngs),
        nnx.Linear(HIDDEN, CLASSES, rngs=rngs)])
    self.norm = nnx.BatchNorm(
        HIDDEN, momentum=0.9, rngs=rngs) if norm else None
    self.dropout = nnx.Dropout(rate, rngs=rngs)

  def __call__(self, x):
    x = self.layers[0](x)
    if self.norm is not None:
      x = self.norm(x)
    return self.layers[1](self.dropout(nnx.relu(x)))


def functions(rate):
  def init(key, x):
    draw = jax.nn.initializers.glorot_uniform()
    keys = jax.random.split(key)
    return {'a': draw(keys[0], (x.shape[1], HIDDEN)),
            'b': draw(keys[1], (HIDDEN, CLASSES))}

  def apply(params, x, key, train):
    x = jax.nn.relu(x @ params['a'])
    if train and rate:
      x = jnp.where(jax.random.bernoulli(key, 1 - rate, x.shape), x, 0)
      x = x / (1 - rate)
    return x @ params['b']

  return models.from_functions(init, apply)


@functools.cache
def make(kind, norm=False, rate=0.0):
  if kind == 'linen':
    return models.from_linen(LinenNet(norm, rate))
  if kind == 'nnx':
    return models.from_nnx(lambda rngs: NnxNet(norm, rate, rngs=rngs))
  return functions(rate)


@functools.cache
def started(kind, norm=False, rate=0.0):
  """(a model, its variables of key 0)."""
  model = make(kind, norm, rate)
  return model, jax.jit(model.init)(KEY(0), inputs(2))


def apply(model, variables, x, **options):
  """`model.run`, compiled as a whole."""
  train = options.pop('train', False)
  call = functools.partial(model.run, train=train)
  return jax.jit(call)(variables, x, **options)


KINDS = ['linen', 'nnx', 'functions']
NORMED = ['linen', 'nnx']
KEY = jax.random.key


def inputs(rows, seed=0):
  rng = np.random.default_rng(seed)
  return np.float32(rng.normal(size=(rows, INPUTS)))


def padded(x, rows):
  """(x and then rows of 1e6, its mask)."""
  padding = np.full((rows - len(x), *x.shape[1:]), 1e6, x.dtype)
  return np.concatenate([x, padding]), np.arange(rows) < len(x)


def masked_loss(model, variables, x, y, mask, key=None):
  """(the mean loss over the mask, the new state) in training."""
  def of(params):
    outputs, state = model.apply(
        params, variables.model_state, x, key=key, train=True, mask=mask)
    losses = model.loss(outputs, {'y': y})
    count = jnp.maximum(mask.sum(), 1)
    return jnp.where(mask, losses, 0).sum() / count, state
  return of


def assert_close(a, b, rtol=1e-5, atol=1e-6):
  assert TREE.tree_structure(a) == TREE.tree_structure(b)
  for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
    np.testing.assert_allclose(x, y, rtol=rtol, atol=atol)


def assert_equal(a, b):
  assert_close(a, b, rtol=0, atol=0)


@pytest.mark.parametrize('kind', KINDS)
def test_variables_are_nested_dicts_of_float32_arrays(kind):
  norm = kind in NORMED
  variables = started(kind, norm, 0.5)[1]
  assert isinstance(variables, types.Variables)

  def walk(tree):
    if type(tree) is dict:
      assert all(type(name) is str for name in tree)
      return sum(map(walk, tree.values()))
    assert isinstance(tree, jax.Array) and tree.dtype == jnp.float32
    return tree.size

  biases = 0 if kind == 'functions' else HIDDEN + CLASSES
  count = INPUTS * HIDDEN + HIDDEN * CLASSES + biases + 2 * HIDDEN * norm
  assert walk(variables.params) == count
  assert walk(variables.model_state) == 2 * HIDDEN * norm  # mean, variance
  if not norm:
    assert variables.model_state == {}


@pytest.mark.parametrize('kind', KINDS)
def test_init_depends_on_the_key_and_on_shapes_alone(kind):
  model, compiled = started(kind, kind in NORMED, 0.5)
  variables = model.init(KEY(0), inputs(2))
  assert_close(variables, compiled)
  assert_equal(variables, model.init(KEY(0), 1e6 * inputs(5)))
  assert_equal(variables, model.init(
      KEY(0), jax.ShapeDtypeStruct((4, INPUTS), jnp.float32)))
  other = model.init(KEY(1), inputs(2))
  same = jax.tree.map(np.allclose, variables.params, other.params)
  assert not all(jax.tree.leaves(same))


@pytest.mark.parametrize('kind', KINDS)
def test_variables_survive_an_npz_file_of_flattened_names(kind, tmp_path):
  model, variables = started(kind, kind in NORMED)
  paths, treedef = TREE.tree_flatten_with_path(variables)
  names = [TREE.keystr(path, simple=True, separator='/') for path, _ in paths]
  assert len(set(names)) == len(names)
  np.savez(tmp_path / 'v.npz', **dict(
      zip(names, (leaf for _, leaf in paths), strict=True)))
  with np.load(tmp_path / 'v.npz') as file:
    loaded = treedef.unflatten([file[name] for name in names])
  assert_equal(apply(model, loaded, inputs(3)),
               apply(model, variables, inputs(3)))


@pytest.mark.parametrize('train', [True, False])
@pytest.mark.parametrize('kind', KINDS)
def test_padding_does_not_leak(kind, train):
  model, variables = started(kind, kind in NORMED, 0.5)
  x = inputs(5)
  outputs, state = apply(
      model, variables, x, key=KEY(1), train=train, mask=np.ones(5, bool))
  long, mask = padded(x, 8)
  long_outputs, long_state = apply(
      model, variables, long, key=KEY(1), train=train, mask=mask)
  assert long_outputs.shape == (8, CLASSES)
  assert_close(outputs, long_outputs[:5])
  assert_close(state, long_state)


@pytest.mark.parametrize('kind', KINDS)
def test_padding_does_not_leak_into_gradients(kind):
  model, variables = started(kind, kind in NORMED, 0.5)
  x, y = inputs(5), np.array([0, 1, 2, 0, 1])
  long, mask = padded(x, 8)
  long_y = np.concatenate([y, [0, 0, 0]])
  (gradient, state), (long_gradient, long_state) = (
      jax.jit(jax.grad(masked_loss(model, variables, *batch, key=KEY(1)),
                       has_aux=True))(variables.params)
      for batch in ((x, y, np.ones(5, bool)), (long, long_y, mask)))
  assert_close(gradient, long_gradient)
  assert_close(state, long_state)
  assert max(np.abs(g).max() for g in jax.tree.leaves(gradient)) > 1e-3


@pytest.mark.parametrize('kind', NORMED)
def test_a_batch_of_padding_alone_changes_no_state(kind):
  model, variables = started(kind, norm=True)
  x, mask = padded(inputs(0), 4)
  (value, state), gradient = jax.jit(jax.value_and_grad(
      masked_loss(model, variables, x, np.zeros(4, int), mask),
      has_aux=True))(variables.params)
  assert value == 0
  assert_equal(state, variables.model_state)
  assert_equal(gradient, jax.tree.map(jnp.zeros_like, gradient))


@pytest.mark.parametrize('kind', NORMED)
def test_batchnorm_tracks_mean_and_variance_of_the_real_rows(kind):
  model, variables = started(kind, norm=True)
  leaves = {TREE.keystr(path): np.float64(leaf) for path, leaf in
            TREE.tree_leaves_with_path(variables.params)}
  first = ('Dense_0', 'layers\'][\'0')[kind == 'nnx']
  weight = leaves[f"['{first}']['kernel']"]
  hidden = np.float64(inputs(5)) @ weight + leaves[f"['{first}']['bias']"]
  x, mask = padded(inputs(5), 8)
  _, state = apply(model, variables, x, train=True, mask=mask)
  mean, var = jax.tree.leaves(state)
  np.testing.assert_allclose(mean, 0.1 * hidden.mean(0), atol=1e-6)
  np.testing.assert_allclose(var, 0.9 + 0.1 * hidden.var(0), rtol=1e-5)


@pytest.mark.parametrize('kind', NORMED)
def test_evaluation_uses_the_state_and_leaves_it(kind):
  model, variables = started(kind, norm=True, rate=0.5)
  x = inputs(5)
  outputs, state = model.run(variables, x, train=False)
  assert state is variables.model_state
  moved = jax.tree.map(
      lambda leaf: np.asarray(leaf) + 1, variables.model_state)
  other, _ = apply(model, variables._replace(model_state=moved), x)
  assert not np.allclose(outputs, other)
  # Row by row the same: nothing is taken over the batch.
  one, _ = apply(model, variables, x[2:3])
  np.testing.assert_allclose(one[0], outputs[2], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize('kind', KINDS)
def test_dropout_of_a_row_ignores_the_rows_after_it(kind):
  model, variables = started(kind, rate=0.5)
  x = inputs(4)

  def run(rows, key):
    long, mask = padded(x, rows)
    return apply(model, variables, long, key=key, train=True, mask=mask)[0][:4]

  draws = run(4, KEY(1))
  np.testing.assert_allclose(run(33, KEY(1)), draws, rtol=1e-5, atol=1e-6)
  assert not np.allclose(run(4, KEY(2)), draws)
  # The mean over many keys is the output without dropout; without the factor
  # 1 / (1 - rate) it would be half of it.
  many = jax.vmap(lambda key: run(4, key))(jax.random.split(KEY(3), 4000))
  plain, _ = model.run(variables, x)
  scale = np.abs(plain).max()
  np.testing.assert_allclose(np.mean(many, 0), plain, atol=0.06 * scale)


@pytest.mark.parametrize('kind', KINDS)
def test_training_in_a_compiled_loop_equals_single_steps(kind):
  model, start = started(kind, kind in NORMED, 0.2)
  x, mask = padded(inputs(5), 6)
  y = np.array([0, 1, 2, 0, 1, 0])

  @jax.jit
  def step(i, variables):
    gradient, state = jax.grad(
        masked_loss(model, variables, x, y, mask,
                    jax.random.fold_in(KEY(1), i)),
        has_aux=True)(variables.params)
    params = jax.tree.map(
        lambda p, g: p - 0.1 * g, variables.params, gradient)
    return types.Variables(params, state)

  looped = jax.jit(lambda v: lax.fori_loop(0, 3, step, v))(start)
  plain = start
  for i in range(3):
    plain = step(i, plain)
  assert_close(looped, plain, rtol=1e-4, atol=1e-5)

  def loss(variables):
    return masked_loss(model, variables, x, y, mask, KEY(9))(
        variables.params)[0]

  assert jax.jit(loss)(looped) < jax.jit(loss)(start)


@pytest.mark.parametrize('kind', KINDS)
def test_vmap_over_lanes_equals_a_loop(kind):
  model = make(kind, kind in NORMED, 0.5)
  lanes = jax.jit(jax.vmap(lambda key: model.init(key, inputs(2))))(
      jax.random.split(KEY(0), 3))
  x = np.stack([inputs(6, seed) for seed in range(3)])
  masks = np.arange(6) < np.array([6, 4, 0])[:, None]
  y = np.array([0, 1, 2, 0, 1, 2])

  @jax.jit
  def work(variables, x, mask, key):
    return jax.value_and_grad(
        masked_loss(model, variables, x, y, mask, key), has_aux=True)(
            variables.params)

  keys = jax.random.split(KEY(1), 3)
  together = jax.vmap(work)(lanes, x, masks, keys)
  for i in range(3):
    lane = lambda tree, i=i: jax.tree.map(lambda x: np.asarray(x)[i], tree)
    alone = work(lane(lanes), x[i], masks[i], keys[i])
    assert_close(lane(together), alone, atol=1e-5)


def test_functions_are_handed_what_they_name():
  seen = {}

  def apply(params, x, *, key, train, deterministic, mask):
    seen.update(key=key, train=train, deterministic=deterministic, mask=mask)
    return x

  model = models.from_functions(lambda key, x: {}, apply)
  mask = jnp.array([True, False])
  model.apply({}, {}, inputs(2), key=3, train=True, mask=mask)
  assert (seen['key'], seen['train'], seen['deterministic']) == (3, True,
                                                                 False)
  np.testing.assert_array_equal(seen['mask'], mask)
  model.apply({}, {}, inputs(2))
  assert (seen['key'], seen['train'], seen['deterministic']) == (None, False,
                                                                 True)
  np.testing.assert_array_equal(seen['mask'], [True, True])


def test_as_float_scales_bytes_and_nothing_else():
  tree = {'pixels': jnp.array([0, 51, 255], jnp.uint8),
          'tokens': jnp.array([3, 4], jnp.int32),
          'numbers': jnp.array([200.0], jnp.float32)}
  result = models.as_float(tree)
  np.testing.assert_allclose(result['pixels'], [0, 0.2, 1])
  assert result['pixels'].dtype == jnp.float32
  for name in ('tokens', 'numbers'):
    assert result[name].dtype == tree[name].dtype
    np.testing.assert_array_equal(result[name], tree[name])


def test_standardized_scales_bytes_first_and_then_by_the_moments():
  result = models.standardized(0.2, 0.5)(
      {'pixels': jnp.array([0, 51, 255], jnp.uint8),
       'numbers': jnp.array([0.7], jnp.float32)})
  np.testing.assert_allclose(result['pixels'], [-0.4, 0, 1.6], atol=1e-6)
  np.testing.assert_allclose(result['numbers'], [1.0], rtol=1e-6)


def test_preprocess_comes_first_and_can_be_left_out():
  pixels = jnp.array([[0, 255]], jnp.uint8)
  for preprocess, expected in (
      (models.as_float, [[0, 1]]), (None, [[0, 255]]),
      (lambda x: x.astype(jnp.float32) + 1, [[1, 256]])):
    seen = []
    model = models.from_functions(
        lambda key, x, seen=seen: seen.append(x.dtype) or {},
        lambda params, x: x, preprocess=preprocess)
    np.testing.assert_array_equal(model.apply({}, {}, pixels)[0], expected)
    model.init(KEY(0), pixels)
    assert seen == [jnp.uint8 if preprocess is None else jnp.float32]


def test_preprocess_is_handed_what_it_names():
  def preprocess(x, key, *, train, mask):
    noise = jax.random.normal(key, x.shape) if train else 0
    return jnp.where(mask[:, None], x + noise, -1)

  model = models.from_functions(
      lambda key, x: {}, lambda params, x, key: x + 0 * jax.random.bits(key),
      preprocess=preprocess)
  x, mask = jnp.ones((3, 2)), jnp.array([True, True, False])
  model.init(KEY(0), x)
  apply = lambda key, train: model.apply(
      {}, {}, x, key=key, train=train, mask=mask)[0]
  np.testing.assert_array_equal(
      apply(KEY(1), False), [[1, 1], [1, 1], [-1, -1]])
  noise = apply(KEY(1), True)[:2] - 1
  assert np.all(noise != apply(KEY(2), True)[:2] - 1)
  # A key of its own: the model's dropout must not draw the same.
  assert np.all(noise != jax.random.normal(KEY(1), x.shape)[:2])


def test_a_preprocess_that_needs_more_is_an_error():
  with pytest.raises(ValueError, match="preprocess needs an argument 'rate'"):
    models.from_functions(
        lambda key, x: {}, lambda params, x: x, preprocess=lambda x, rate: x)


def bad_model(apply, init=lambda key, x: {}):
  return models.from_functions(init, apply)


@pytest.mark.parametrize('model, message', [
    (bad_model(lambda params, x: (x, x)), 'one array of outputs, got tuple'),
    (bad_model(lambda params, x: {'logits': x}), 'array of outputs, got dict'),
    (bad_model(lambda params, x: x.sum()), r'shape \[2, ...\].*got \[\]'),
    (bad_model(lambda params, x: x[:1]), r'shape \[2, ...\].*got \[1, 6\]'),
    (bad_model(lambda params, x: x @ jnp.ones((5, 3))),
     r'inputs float32\[2, 6\].*dot_general'),
    (bad_model(lambda params, x: x, lambda key, x: {'n': jnp.arange(3)}),
     r"float arrays.*got int32 in .*'n'"),
    (bad_model(lambda params, x: x, lambda key, x: {'n': 3}),
     r"float arrays.*got <class 'int'> in .*'n'"),
])
def test_init_names_what_is_wrong(model, message):
  with pytest.raises(ValueError, match=f'(?s){message}'):
    model.init(KEY(0), inputs(2))


@pytest.mark.parametrize('kind', ['linen', 'nnx'])
def test_inputs_that_do_not_fit_are_named_with_their_shape(kind):
  model = make('nnx') if kind == 'nnx' else models.mnist_cnn()
  with pytest.raises(ValueError, match=r'uint8\[3, 5\]'):
    model.init(KEY(0), jax.ShapeDtypeStruct((3, 5), jnp.uint8))


def test_an_argument_that_nobody_has_is_an_error():
  with pytest.raises(ValueError, match="apply needs an argument 'power'.*mask"):
    models.from_functions(lambda key, x: {}, lambda params, x, power: x)
  # With a default it is left alone.
  model = models.from_functions(
      lambda key, x: {}, lambda params, x, power=2, **rest: x**power)
  np.testing.assert_array_equal(
      model.apply({}, {}, jnp.full((1, 2), 3.0))[0], [[9, 9]])
