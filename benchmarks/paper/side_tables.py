"""Tables of the page that are not the paper's: two cells, other ways.

From causes.jsonl and comparisons.jsonl beside the store.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.paper import readings, results

Line = Mapping[str, Any]


def causes(lines: Sequence[Line]) -> str:
  """Rounds of each way, for both cells.

  Args:
    lines: of `benchmarks.paper.causes`, at least one.
  """
  by_rate = [line for line in lines
             if line['clients'] == 'IID' and len(line['crossings']) > 1]
  others = [line for line in lines if line not in by_rate]
  read = [line for line in lines if len(line.get('readings', ())) > 1]
  parts = ['The 2NN, C = 0.1, E = 1, B = 10: rounds to 97%. '
           '`python -m benchmarks.paper.causes`']
  if by_rate:
    parts.append(
        'IID (92 rounds in table 4, 87 in table 1), medians by learning rate '
        '(with pixels up to 255, that divided by 255²):\n\n'
        + _by_rate(by_rate))
  if others:
    parts.append(
        'Non-IID (831 rounds in table 4, 664 in table 1) and IID: the median '
        'over seeds, and each seed, at the best of the rates that were tried. '
        'Unless a line says otherwise, pixels lie from -0.5 to 0.5:\n\n'
        + _by_seed(others))
  if read:
    parts.append(
        'The same curves, non-IID, read in other ways: the median over seeds '
        'and their range, each at the rate that is best for it:\n\n'
        + _by_reading(read))
  return '\n\n'.join(parts)


def _by_rate(lines: Sequence[Line]) -> str:
  """A line a way, a column a rate."""
  own = list(lines[0]['crossings'])
  rows = ['| way | best | ' + ' | '.join(own) + ' |',
          '|---|--:|' + '--:|' * len(own)]
  for line in lines:
    medians = [results.median(c) for c in line['crossings'].values()]
    told = [_rounds(m, line) for m in medians]
    best = f'{told[medians.index(min(medians))]} at {line["best_rate"]}'
    rows.append(f'| {line["way"]} | {best if min(medians) < math.inf else "-"}'
                f' | {" | ".join(told)} |')
  return '\n'.join(rows)


def _by_seed(lines: Sequence[Line]) -> str:
  """A line a way: median, each seed, the rates."""
  rows = ['| clients | way | median | seeds | rate | others tried |',
          '|---|---|--:|---|--:|---|']
  for line in lines:
    rates, best = line['crossings'], line['best_rate']
    others = ', '.join(f'{rate}: {_rounds(results.median(found), line)}'
                       for rate, found in rates.items() if rate != best)
    rows.append(
        f'| {line["clients"]} | {line["way"]} '
        f'| {_rounds(results.median(rates[best]), line)} '
        f'| {_seeds(rates[best], line)} | {best} | {others or "-"} |')
  return '\n'.join(rows)


def _by_reading(lines: Sequence[Line]) -> str:
  """A line a way, a column a reading."""
  names = [name for name in readings.READINGS
           if any(name in line['readings'] for line in lines)]
  rows = ['| way | ' + ' | '.join(readings.TITLES[n] for n in names) + ' |',
          '|---|' + '--:|' * len(names)]
  for line in lines:
    told = [_read(line, line['readings'].get(name)) for name in names]
    rows.append(f'| {line["way"]} | {" | ".join(told)} |')
  return '\n'.join(rows)


def _read(line: Line, found: Line | None) -> str:
  """Median and range of a reading."""
  if found is None:
    return '-'
  own = [math.inf if c is None else c
         for c in found['crossings'][found['best_rate']]]
  low, middle, high = (_rounds(r, line) for r in (
      min(own), results.median(own), max(own)))
  return middle if low == high else f'{middle} ({low} to {high})'


def _seeds(crossings: Sequence[float | None], line: Line) -> str:
  return ', '.join(
      _rounds(math.inf if c is None else c, line) for c in crossings)


def _rounds(rounds: float, line: Line) -> str:
  return (results.number(rounds) if rounds < math.inf
          else f'> {line["limit"]}')


def comparisons(lines: Sequence[Line]) -> str:
  """Final accuracies, a table for each topic."""
  texts = {
      'one shot': 'All 100 clients, 20 local epochs in all (2NN, B = 10), '
                  'averaged after every so many of them:',
      'weights': 'Clients of unequal sizes weighed by their examples or all '
                 'alike (2NN; FedSGD 100 rounds, FedAvg 50, C = 0.1). Where '
                 'all sizes are the same the two are one:'}
  parts = ['Final test accuracy, the median over '
           f'{len(lines[0]["seeds"])} seeds and their range, at the best '
           'of three rates (marked where that is the largest or the least, so '
           'that a better one may lie beyond). '
           '`python -m benchmarks.paper.comparisons`']
  known = {line['topic'] for line in lines}
  for topic, text in texts.items():
    if topic not in known:
      continue
    rows = [text, '', '| clients | way | accuracy | rate |',
            '|---|---|--:|--:|']
    for line in (line for line in lines if line['topic'] == topic):
      own = sorted(a or 0.0 for a in line['accuracy'][line['best_rate']])
      rows.append(
          f'| {line["clients"]} | {line["way"]} | {100 * line["median"]:.1f}% '
          f'({100 * own[0]:.1f} to {100 * own[-1]:.1f}) | '
          f'{line["best_rate"]}{_edge(line)} |')
    parts.append('\n'.join(rows))
  return '\n\n'.join(parts)


def _edge(line: Line) -> str:
  """Whether the best rate lies at an end of those tried."""
  rates = sorted(line['accuracy'], key=float)
  ends = {rates[0]: ', the least', rates[-1]: ', the largest'}
  return ends.get(line['best_rate'], '')
