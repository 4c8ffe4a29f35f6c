"""Warnings that point at the line of the user's that has caused them."""

import sys
import warnings


def warn(message: str) -> None:
  """A warning at the user's call of this package."""
  package = __name__.split('.')[0]
  frame, depth, level = sys._getframe(1), 2, 1
  while frame is not None:
    depth += 1
    if frame.f_globals.get('__name__', '').split('.')[0] == package:
      level = depth  # Of the frame that has called this one.
    frame = frame.f_back
  warnings.warn(message, stacklevel=level)
