"""Losses and metrics are handed the mask where they take one."""

import inspect
from collections.abc import Callable
from typing import Any

import jax


def call(
    function: Callable[..., Any], outputs: Any, examples: Any,
    mask: jax.Array | None,
) -> Any:
  """`function(outputs, examples)`, with `mask=` if it has a parameter so named.

  Args:
    function: a loss or metrics.
    outputs: of a model.
    examples: those of the outputs.
    mask: bool [B], False on padding.
  """
  if 'mask' in inspect.signature(function).parameters:
    return function(outputs, examples, mask=mask)
  return function(outputs, examples)
