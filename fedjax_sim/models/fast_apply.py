"""Fast convolutions and pooling in a function that was written without.

What a function does is traced to a jaxpr once for each set of shapes. There
every convolution becomes matrix products (`models/convolution.py`) and every
pooling by windows selects between slices (`models/pooling.py`), also in what it
calls: jit, scan, while, cond, checkpoint, custom derivatives and their rules,
and custom batching. What comes out is run, and differentiated, in the place of
the function.

All else stays as it is, equation by equation: random bits, effects, and
whatever has no fast form here (`convolution.conv_general_dilated` says which;
sums of windows that don't overlap, in which lax is fast; windows of very many
entries).
"""

import functools
import weakref
from collections.abc import Callable
from typing import Any

import jax
from jax import numpy as jnp
from jax.extend import core as jex_core
from jax.extend import linear_util
from jax.extend.core import primitives

from fedjax_sim.models import convolution, pooling

# What a kernel does is its author's.
_OWN_CODE = ('pallas_call',)

# jaxpr -> the same with fast forms, or None if it holds nothing slow.
_REWRITTEN: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()


def with_fast_forms(function: Callable, static: str) -> Callable:
  """`function`, with fast convolutions and pooling.

  Args:
    function: of PyTrees of arrays, pure; returns a PyTree of arrays. It is
      traced as under `jax.jit`, so it can't look at values.
    static: the name of its one keyword that is not an array.

  Returns:
    A function of the same arguments. Where there is nothing to replace it calls
    `function` itself.
  """
  traced = jax.jit(function, static_argnames=static)

  @functools.wraps(function)
  def fast(*args, **kwargs):
    if jax.config.jax_disable_jit:  # Somebody is debugging.
      return function(*args, **kwargs)
    option = {static: kwargs.pop(static)}
    outer, shapes = jax.make_jaxpr(
        functools.partial(traced, **option), return_shape=True)(*args, **kwargs)
    # One call, whose jaxpr JAX keeps for the same shapes.
    call, = outer.eqns
    jaxpr = rewritten(call.params['jaxpr'])
    if jaxpr is None:
      return function(*args, **kwargs, **option)
    values = dict(zip(outer.jaxpr.constvars, outer.consts, strict=True))
    values.update(zip(
        outer.jaxpr.invars, jax.tree.leaves((args, kwargs)), strict=True))
    outputs = jex_core.jaxpr_as_fun(jaxpr)(
        *(_value(atom, values) for atom in call.invars))
    return jax.tree.unflatten(jax.tree.structure(shapes), outputs)

  return fast


def _value(atom, values):
  return atom.val if isinstance(atom, jex_core.Literal) else values[atom]


def rewritten(jaxpr: Any) -> Any | None:
  """A jaxpr of the same interface with fast forms, or None if it has no slow.

  Args:
    jaxpr: a `Jaxpr` or `ClosedJaxpr`.
  """
  if jaxpr not in _REWRITTEN:
    _REWRITTEN[jaxpr] = _rewrite(jaxpr)
  return _REWRITTEN[jaxpr]


def _rewrite(jaxpr):
  # From JAX 0.11 on there is one class of them, which is its own `jaxpr`.
  open_jaxpr = getattr(jaxpr, 'jaxpr', jaxpr)
  if open_jaxpr is not jaxpr:
    inner = rewritten(open_jaxpr)
    return (None if inner is None
            else jex_core.ClosedJaxpr(inner, jaxpr.consts))
  eqns = [_fast_equation(eqn) for eqn in jaxpr.eqns]
  if all(new is old for new, old in zip(eqns, jaxpr.eqns, strict=True)):
    return None
  return jaxpr.replace(eqns=eqns)


def _fast_equation(eqn):
  """The equation's fast form, or the equation itself."""
  form = _fast_form(eqn)
  if form is not None:
    return _called(form, eqn)
  if eqn.primitive.name in _OWN_CODE:
    return eqn
  changed = {}
  for name, value in eqn.params.items():
    rule = _RULES.get((eqn.primitive.name, name))
    new = rule(value) if rule else _fast_parameter(value)
    if new is not value:
      changed[name] = new
  return eqn.replace(params={**eqn.params, **changed}) if changed else eqn


def _fast_parameter(value):
  """The jaxprs in an equation's parameter rewritten, all else as it is."""
  if isinstance(value, jex_core.Jaxpr | jex_core.ClosedJaxpr):
    return _or(rewritten(value), value)
  if isinstance(value, tuple):
    entries = [_fast_parameter(entry) for entry in value]
    if any(new is not old for new, old in zip(entries, value, strict=True)):
      return (type(value)(*entries) if hasattr(value, '_fields')
              else tuple(entries))
  return value


def _fast_form(eqn) -> Callable | None:
  """The function that computes an equation fast, hashable, or None."""
  params = eqn.params
  if eqn.primitive is primitives.conv_general_dilated_p:
    return _Form(convolution.conv_general_dilated, params)
  pool = _POOLS.get(eqn.primitive)
  if pool is None or not _windows_pay(eqn):
    return None
  return _Form(pool, {k: v for k, v in params.items() if k != 'base_dilation'})


_POOLS = {
    primitives.reduce_window_max_p: pooling.max_windows,
    primitives.reduce_window_min_p: pooling.min_windows,
    primitives.reduce_window_sum_p: pooling.sum_windows,
}


def _windows_pay(eqn) -> bool:
  x, params = eqn.invars[0].aval, eqn.params
  sizes, strides = params['window_dimensions'], params['window_strides']
  if (x.dtype == bool or any(gap != 1 for gap in params['base_dilation'])
      or jnp.issubdtype(x.dtype, jnp.complexfloating)
      or 0 in eqn.outvars[0].aval.shape):
    return False
  if eqn.primitive is primitives.reduce_window_sum_p and sizes == strides:
    return False
  return all(map(pooling.is_short, sizes, strides, x.shape))


class _Form:
  """A function with its keywords, equal to another one of the same."""

  def __init__(self, function, params):
    self.function, self.params = function, params
    self._key = function, tuple(sorted(params.items(), key=lambda p: p[0]))

  def __hash__(self):
    return hash(self._key)

  def __eq__(self, other):
    return isinstance(other, _Form) and self._key == other._key

  def __call__(self, *args):
    return self.function(*args, **self.params)


@functools.lru_cache(maxsize=1024)
def _compiled(form: _Form) -> Callable:
  """One function of each form, so that JAX traces it once for its shapes."""
  def call(*args):
    return form(*args)
  call.__name__ = form.function.__name__
  return jax.jit(call)


def _called(form, eqn):
  """`eqn`, as a call of a function; itself if that is no faster."""
  with eqn.ctx.manager:
    closed = jax.make_jaxpr(_compiled(form))(*(v.aval for v in eqn.invars))
  call, = closed.eqns
  inner = call.params['jaxpr']
  same = [v.aval for v in call.outvars] == [v.aval for v in eqn.outvars]
  if not same or any(
      e.primitive is eqn.primitive for e in inner.jaxpr.eqns):
    return eqn
  return eqn.replace(primitive=call.primitive, params=call.params)


def _rewriting(function: linear_util.WrappedFun) -> linear_util.WrappedFun:
  """A rule that returns `(jaxpr, ...)`, with that jaxpr rewritten."""
  def rule(*args):
    jaxpr, *rest = function.call_wrapped(*args)
    return (_or(rewritten(jaxpr), jaxpr), *rest)
  return linear_util.wrap_init(rule, debug_info=function.debug_info)


def _retraced(function: linear_util.WrappedFun) -> linear_util.WrappedFun:
  """A rule that computes, run by its rewritten jaxpr."""
  return linear_util.wrap_init(
      _traced_again(function.call_wrapped), debug_info=function.debug_info)


def _traced_again(function: Callable) -> Callable:
  """`function`, of arrays and others, run by its rewritten jaxpr."""
  def fast(*args):
    leaves, treedef = jax.tree.flatten(args)
    arrays = [leaf for leaf in leaves if _is_array(leaf)]
    others = []  # What the function returns beside arrays.

    def run(*arrays):
      arrays = iter(arrays)
      outputs, out_treedef = jax.tree.flatten(function(*jax.tree.unflatten(
          treedef, [next(arrays) if _is_array(leaf) else leaf
                    for leaf in leaves])))
      others[:] = [out_treedef, [
          None if _is_array(leaf) else leaf for leaf in outputs]]
      return [leaf for leaf in outputs if _is_array(leaf)]

    jaxpr = jax.make_jaxpr(run)(*arrays)
    fast_jaxpr = _or(rewritten(jaxpr), jaxpr)
    results = iter(jex_core.jaxpr_as_fun(fast_jaxpr)(*arrays))
    out_treedef, places = others
    return jax.tree.unflatten(out_treedef, [
        next(results) if place is None else place for place in places])
  return fast


def _or(value, other):
  return other if value is None else value


def _is_array(leaf) -> bool:
  return isinstance(leaf, jax.Array)


# Parameters that are functions: the rules of custom derivatives and batching.
_RULES = {
    ('custom_jvp_call', 'jvp_jaxpr_fun'): _rewriting,
    ('custom_vjp_call', 'fwd_jaxpr_thunk'): _rewriting,
    ('custom_vjp_call', 'bwd'): _retraced,
    ('custom_vmap_call', 'rule'): _traced_again,
}
