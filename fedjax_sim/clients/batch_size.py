"""Whether what a function computes depends on the size of its batch."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.extend import core

# Primes that no other axis is a multiple of.
_SIZES = (8191, 8179)


def may_matter(trace: Callable[[int], Any]) -> bool:
  """Whether two sizes trace to different steps, but for the sizes of arrays.

  Args:
    trace: size of the batch -> a closed jaxpr.
  """
  one, other = map(trace, _SIZES)
  return not (_same_values(one.consts, other.consts)
              and _same_steps(one.jaxpr, other.jaxpr))


def _same_values(one: Any, other: Any) -> bool:
  return len(one) == len(other) and all(
      np.shape(a) == np.shape(b) and (
          a is b or np.array_equal(_plain(a), _plain(b)))
      for a, b in zip(one, other, strict=True))


def _plain(x: Any) -> Any:
  is_key = jax.dtypes.issubdtype(getattr(x, 'dtype', None), jax.dtypes.prng_key)
  return jax.random.key_data(x) if is_key else x


def _same_steps(one: Any, other: Any) -> bool:
  return len(one.eqns) == len(other.eqns) and all(
      a.primitive is b.primitive
      and _same_values(_literals(a), _literals(b))
      and all(_same_parameter(x, b.params.get(name))
              for name, x in a.params.items())
      for a, b in zip(one.eqns, other.eqns, strict=True))


def _literals(step: Any) -> list[Any]:
  return [v.val for v in step.invars if isinstance(v, core.Literal)]


def _same_parameter(one: Any, other: Any, is_axis: bool = False) -> bool:
  """Whether they are equal, or sizes of axes that go with the batch."""
  if isinstance(one, core.ClosedJaxpr):
    return _same_values(one.consts, other.consts) and _same_steps(
        one.jaxpr, other.jaxpr)
  if isinstance(one, core.Jaxpr):
    return _same_steps(one, other)
  if isinstance(one, tuple | list):
    return len(one) == len(other) and all(
        _same_parameter(a, b, True) for a, b in zip(one, other, strict=True))
  if isinstance(one, int | float):
    rows = [divmod(x, size) for x, size in zip(
        (one, other), _SIZES, strict=True)]
    return one == other or (one != one and other != other) or (
        is_axis and rows[0] == rows[1] and not rows[0][1])
  return True  # Functions and names.
