"""A proof, from what a function traces to, that rows of a batch stay apart.

The function is traced with a batch of `SIZE` rows, a prime that no other axis
is a multiple of. So in every array that data flow into, the axis of the rows is
known. A step that reduces, contracts, orders or cuts that axis may mix rows;
one that maps over it does not. What is not known to be safe is `UnclearError`.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
from jax.extend import core

SIZE = 8191

_ELEMENTWISE = frozenset("""
    abs acos acosh add add_any and asin asinh atan atan2 atanh cbrt ceil clamp
    convert_element_type copy copy_p cos cosh digamma div eq erf erf_inv erfc
    exp exp2 expm1 floor ge gt integer_pow is_finite le lgamma log log1p
    logistic lt max min mul ne neg nextafter not optimization_barrier or pow
    reduce_precision rem round rsqrt select_n shift_left shift_right_arithmetic
    shift_right_logical sign sin sinh sqrt square stop_gradient sub tan tanh xor
    """.split())
_CALLS = frozenset("""
    checkpoint closed_call core_call custom_jvp_call custom_vjp_call jit pjit
    remat2""".split())


class UnclearError(Exception):
  """A step that is not known to keep rows apart."""


class Rows(NamedTuple):
  """Where the rows are in an array that data flow into.

  Attributes:
    axis: theirs, whose size is `outer` x SIZE x whatever follows them in it.
    outer: what comes before them in that axis, where axes have been merged.
  """

  axis: int
  outer: int


# Of an array that no data flow into.
_Flow = Rows | None


def check(function: Callable[..., Any], *args: Any, data: Sequence[bool]):
  """Checks that every output's row depends on the same row of the data.

  Args:
    function: `(*args) -> PyTree` of arrays [SIZE, ...].
    *args: arrays or shapes; data with `SIZE` rows.
    data: for each argument, whether it is data; the others are weights.

  Raises:
    UnclearError: it is not clear.
  """
  jaxpr = jax.make_jaxpr(function)(*args).jaxpr
  flows = [Rows(0, 1) if is_data else None
           for arg, is_data in zip(args, data, strict=True)
           for _ in jax.tree.leaves(arg)]
  for variable, flow in zip(jaxpr.invars, flows, strict=True):
    if flow is None and any(n % SIZE == 0 for n in variable.aval.shape):
      raise UnclearError('weights have an axis of that size')
  for flow in _follow(jaxpr, flows):
    if flow not in (Rows(0, 1), None):
      raise UnclearError('an output has its rows elsewhere')


def _follow(jaxpr: Any, flows: Sequence[_Flow]) -> list[_Flow]:
  """Where the rows are in each output."""
  reached = {v: flow for v, flow in zip(jaxpr.invars, flows, strict=True)
             if flow is not None}
  of = lambda v: None if isinstance(v, core.Literal) else reached.get(v)
  for step in jaxpr.eqns:
    inputs = list(map(of, step.invars))
    if any(inputs):
      outputs = _step(step, inputs)
      reached |= {v: flow for v, flow in zip(
          step.outvars, outputs, strict=True) if flow is not None}
  return list(map(of, jaxpr.outvars))


def _axis(variable: Any) -> int:
  """The axis of the rows, the only one with a multiple of their number."""
  axes = [i for i, n in enumerate(variable.aval.shape) if n and n % SIZE == 0]
  if len(axes) != 1:
    raise UnclearError(f'{len(axes)} axes of rows')
  return axes[0]


def _step(step: Any, inputs: list[_Flow]) -> list[_Flow]:
  name = step.primitive.name
  if name in _CALLS:
    return _follow(_inner(step.params), inputs)
  if name in _LOOPS:
    return _LOOPS[name](step, inputs)
  if name == 'reshape':
    return [_reshaped(step, *inputs)]
  axes = [flow and flow.axis for flow in inputs]
  outer = {flow.outer for flow in inputs if flow is not None}
  rule = _elementwise if name in _ELEMENTWISE else _RULES.get(name)
  if rule is None or len(outer) > 1 or not rule(step, axes, step.params):
    raise UnclearError(name)
  return [Rows(_axis(v), *outer) for v in step.outvars]


def _inner(params: Any) -> Any:
  for name in ('jaxpr', 'call_jaxpr', 'fun_jaxpr'):
    if name in params:
      return getattr(params[name], 'jaxpr', params[name])
  raise UnclearError('a call')


def _reshaped(step: Any, flow: Rows) -> Rows:
  """Where the rows are then: what came before them still does."""
  shape, new = step.invars[0].aval.shape, step.outvars[0].aval.shape
  before = math.prod(shape[:flow.axis]) * flow.outer
  axis = _axis(step.outvars[0])
  outer, rest = divmod(before, math.prod(new[:axis]))
  if step.params['dimensions'] is not None or rest or (
      new[axis] % (outer * SIZE)):
    raise UnclearError('reshape')
  return Rows(axis, outer)


def _scan(step: Any, inputs: list[_Flow]) -> list[_Flow]:
  params = step.params
  if 'ft_in' in params:  # From JAX 0.11 on.
    consts, carry, _ = map(len, params['ft_in'].unpack())
  else:
    consts, carry = params['num_consts'], params['num_carry']
  first = consts + carry
  sliced = [flow and _moved(flow, -1) for flow in inputs[first:]]
  carried = inputs[consts:first]
  while True:  # Until data that flow into the carry have gone all the way.
    outputs = _follow(
        params['jaxpr'].jaxpr, [*inputs[:consts], *carried, *sliced])
    new = [_joined(a, b) for a, b in zip(
        carried, outputs[:carry], strict=True)]
    if new == carried:
      return [*carried, *(flow and _moved(flow, 1)
                          for flow in outputs[carry:])]
    carried = new


def _moved(flow: Rows, by: int) -> Rows:
  if flow.axis + by < 0:
    raise UnclearError('a scan over rows')
  return flow._replace(axis=flow.axis + by)


def _joined(a: _Flow, b: _Flow) -> _Flow:
  if None not in (a, b) and a != b:
    raise UnclearError('rows that move')
  return a or b


def _cond(step: Any, inputs: list[_Flow]) -> list[_Flow]:
  if inputs[0]:
    raise UnclearError('a branch that data choose')
  outputs = [_follow(branch.jaxpr, inputs[1:])
             for branch in step.params['branches']]
  return [functools.reduce(_joined, flows)
          for flows in zip(*outputs, strict=True)]


_LOOPS = {'scan': _scan, 'cond': _cond}


def _elementwise(step, axes, params):
  # Of arrays that are broadcast, data must have their rows in one place.
  del params
  ranks = {v.aval.ndim for v in step.invars if v.aval.ndim}
  return len(ranks) == 1 and len(set(axes) - {None}) == 1


def _dot(step, axes, params):
  contracting, _ = params['dimension_numbers']
  return not any(axis in dims for axis, dims in zip(
      axes, contracting, strict=True) if axis is not None)


def _convolution(step, axes, params):
  return (axes[0] == params['dimension_numbers'].lhs_spec[0]
          and axes[1] is None and params['batch_group_count'] == 1)


def _gather(step, axes, params):
  numbers, operand = params['dimension_numbers'], axes[0]
  if operand is None or operand in numbers.operand_batching_dims:
    return True
  whole = params['slice_sizes'][operand] == step.invars[0].aval.shape[operand]
  return whole and operand not in numbers.start_index_map and axes[1] is None


def _slice(step, axes, params):
  axis, size = axes[0], step.invars[0].aval.shape[axes[0]]
  return (params['start_indices'][axis] == 0
          and params['limit_indices'][axis] == size
          and (params['strides'] is None or params['strides'][axis] == 1))


def _dynamic_slice(step, axes, params):
  axis = axes[0]
  return axis is not None and not any(
      a is not None for a in axes[1:]) and (
          params['slice_sizes'][axis] == step.invars[0].aval.shape[axis])


def _pad(step, axes, params):
  return axes[0] is not None and params['padding_config'][axes[0]] == (0, 0, 0)


def _window(step, axes, params):
  axis = axes[0]
  return (params['window_dimensions'][axis] == 1
          and params['window_strides'][axis] == 1)


def _along(name: str) -> Callable[..., bool]:
  """A step along one axis, or some, which may not be that of the rows."""
  def rule(step, axes, params):
    along = params[name]
    along = along if isinstance(along, tuple) else (along,)
    return all(axis not in along for axis in axes if axis is not None)
  return rule


def _free(step, axes, params):
  """What only moves axes: the rows stay the only ones of their number."""
  return True


_RULES = {
    'dot_general': _dot, 'gather': _gather, 'slice': _slice, 'pad': _pad,
    'conv_general_dilated': _convolution, 'dynamic_slice': _dynamic_slice,
    'broadcast_in_dim': _free, 'transpose': _free, 'squeeze': _free,
    'stack': _free, 'concatenate': _along('dimension'),
    'rev': _along('dimensions'), 'split': _along('axis'),
    'unstack': _along('axis'), 'sort': _along('dimension'),
    **{f'arg{name}': _along('axes') for name in ('max', 'min')},
    **{f'cum{name}': _along('axis')
       for name in ('sum', 'prod', 'max', 'min', 'logsumexp')},
    **{f'reduce_{name}': _along('axes')
       for name in ('sum', 'max', 'min', 'prod', 'and', 'or')},
    **{f'reduce_window{name}': _window for name in ('_sum', '_max', '_min')}}
