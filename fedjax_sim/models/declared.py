"""What losses and metrics say about themselves, and their options.

A loss or metric by name is a function of outputs and examples. Called with
keywords alone, it returns itself with these options set: `huber` has delta 1,
`huber(delta=2.0)` is another loss. So a config writes 'huber(delta=2.0)'.
"""

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from fedjax_sim.core import checks

# What a loss takes for labels: class numbers [B], or [B, ...] of which negative
# ones don't count; 0 or 1 [B]; 0 or 1 [B, K]; tokens [B, T]; real numbers.
LABELS = ('classes', 'binary', 'multilabel', 'tokens', 'real')


def loss(
    labels: str,
    counts: Callable[..., Any] = lambda examples: None,
    least: float | None = None,
) -> Callable[[Callable], Callable]:
  """Decorates a loss `(outputs, examples, *, option=…) -> float32 [B]`.

  Args:
    labels: one of `LABELS`.
    counts: `(examples, **options it names) -> bool [B]`, which examples have
      anything to predict; None for all.
    least: the smallest label that it takes; None for any.

  Returns:
    The loss, with attributes `labels`, `counts` (`(examples) -> bool [B]` or
    None), `least` and `options`, a dict.
    Called with keywords alone it returns itself
    with these options.
  """
  checks.one_of('labels', labels, LABELS)

  def attributes(options: Mapping[str, Any]) -> dict[str, Any]:
    return {'labels': labels, 'counts': _bound(counts, options),
            'least': least}

  return lambda function: _with_options(function, {}, attributes)


def metrics(
    higher_is_better: Mapping[str, bool],
    finish: Mapping[str, Callable[..., Any]] | None = None,
    needs_classes: bool = False,
) -> Callable[[Callable], Callable]:
  """Decorates metrics `(outputs, examples, *, option=…) -> MetricSums`.

  Args:
    higher_is_better: name of a metric -> whether larger values are better.
      '{k}' in a name stands for the value of option `k`.
    finish: name -> `(sum [k...], count [l...], **options it names) ->
      (sum [], count [])`, for a metric whose sums or counts are arrays [B,
      k...]: how the totals become a number. It is pure, and jitted.
    needs_classes: whether real numbers are no labels for it.

  Returns:
    The metrics, with attributes `higher_is_better`, `finish`,
    `needs_classes` and `options`.
    Called with keywords alone it returns itself with these options.
  """
  def attributes(options: Mapping[str, Any]) -> dict[str, Any]:
    named = lambda of_name: {
        name.format(**options): x for name, x in of_name.items()}
    return {
        'needs_classes': needs_classes,
        'higher_is_better': named(higher_is_better),
        'finish': named({name: _bound(function, options)
                         for name, function in (finish or {}).items()})}

  return lambda function: _with_options(function, {}, attributes)


def _bound(function: Callable, options: Mapping[str, Any]) -> Callable:
  """The function with those of the options that it names."""
  wanted = inspect.signature(function).parameters
  return functools.partial(
      function, **{name: x for name, x in options.items() if name in wanted})


def _with_options(
    function: Callable, options: Mapping[str, Any],
    attributes: Callable[[Mapping[str, Any]], dict[str, Any]],
) -> Callable:
  """The function with options set, which can set more of them."""
  known = {name: p for name, p in inspect.signature(
      function, eval_str=True).parameters.items() if p.kind is p.KEYWORD_ONLY}

  @functools.wraps(function)
  def configured(*given, **more):
    for name in more:
      if name not in known and not (given and name == 'mask'):
        raise TypeError(
            f'{function.__name__} has no option {name!r}, only '
            f'{", ".join(known) or "none"}.')
    if len(given) == 1:
      raise TypeError(
          f'{function.__name__} takes outputs and examples, or its options as '
          f'keywords ({", ".join(known) or "it has none"}), got one argument.')
    if given:
      return function(*given, **{**options, **more})
    return _with_options(function, {**options, **more}, attributes)

  # What can be set, for those who look a builder's arguments up.
  configured.__signature__ = inspect.Signature(list(known.values()))
  configured.options = {
      name: p.default for name, p in known.items()} | dict(options)
  for name, value in attributes(configured.options).items():
    setattr(configured, name, value)
  return configured
