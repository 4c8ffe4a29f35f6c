"""The table of docs/scaling.md, from benchmarks/results/compiled.jsonl."""

import json
import re
from typing import Any

from benchmarks.compiled import matrix
from benchmarks.compiled.matrix import Case
from benchmarks.compiled.targets import TARGETS
from benchmarks.contenders import ROOT

RESULTS = ROOT / 'benchmarks' / 'results' / 'compiled.jsonl'
PAGE = ROOT / 'docs' / 'scaling.md'
# What the table compares with.
BEFORE = '4eb4bd8'


def read() -> list[dict[str, Any]]:
  """All result lines."""
  if not RESULTS.exists():
    return []
  return [json.loads(line) for line in RESULTS.read_text().splitlines()]


def append(result: dict[str, Any]) -> None:
  """Adds a line."""
  with RESULTS.open('a') as file:
    file.write(json.dumps(result) + '\n')


def case_of(result: dict[str, Any]) -> Case:
  """The case of a result line."""
  return Case(**result['case'])


def table(results: list[dict[str, Any]]) -> str:
  """A row for each case that is compiled, numbers before and after."""
  before, after = _pairs(results)
  rows = []
  for target, described in TARGETS.items():
    rows += ['', f'**{described.title}**', '',
             '| model, M, devices | ' + ' | '.join(_COLUMNS[target]) + ' |',
             '|---|' + '---|' * len(_COLUMNS[target])]
    for case in sorted(matrix.cases(), key=_order):
      there = [one[case] for one in (before, after) if case in one]
      if case.target == target and there:
        only = '' if len(there) == 2 else (
            ' (before only)' if case in before else ' (after only)')
        rows.append(f'| {_title(case)}{only} | ' + ' | '.join(
            change([_entry(one, column) for one in there])
            for column in _COLUMNS[target].values()) + ' |')
  return '\n'.join(rows[1:])


def change(entries: list[str]) -> str:
  """'before → after'; once where both are alike, or there is one."""
  return ' → '.join(dict.fromkeys(entries))


def _pairs(
    results: list[dict[str, Any]]
) -> tuple[dict[Case, dict[str, Any]], dict[Case, dict[str, Any]]]:
  """Of each case the line before, and the newest after."""
  before, after = {}, {}
  for result in sorted(results, key=lambda r: r.get('date', '')):  # Stable.
    old = result['revision'].startswith(BEFORE)
    (before if old else after)[case_of(result)] = result
  return before, after


def revisions(results: list[dict[str, Any]]) -> str:
  """Which revisions the table shows, and which cases of each."""
  found: dict[str, list[Case]] = {}
  for case, result in _pairs(results)[1].items():
    found.setdefault(result['revision'][:7], []).append(case)
  if not found:
    return f'Revision {BEFORE}'
  most, *others = sorted(found.items(), key=lambda pair: -len(pair[1]))
  text = f'Before: revision {BEFORE}. After: {most[0]}'
  for revision, cases in others:
    names = '; '.join(f'{_title(case)} on {TARGETS[case.target].title}'
                      for case in sorted(cases, key=_order))
    text += f', but {revision} for {names}'
  return text


def page() -> str:
  """The page with the table of committed results in it."""
  results = read()
  versions = sorted({f'{name} {version}' for result in results
                     for name, version in result.get('versions', {}).items()})
  dates = sorted({r['date'] for r in results})
  text = (f'{table(results)}\n\n{revisions(results)}.\n\n'
          f'{", ".join(versions)}; compiled on {", ".join(dates)}.\n')
  return re.sub(
      r'(?<=<!-- compiled -->\n).*?(?=<!-- end compiled -->)', lambda _: text,
      PAGE.read_text(), flags=re.S)


def _order(case: Case) -> tuple:
  return (matrix.MODELS.index(case.model), case.algorithm, case.devices,
          case.clients, case.unequal)


def _title(case: Case) -> str:
  words = [case.model.replace('_', ' '), f'{case.clients:,}',
           str(case.devices)]
  words += [case.algorithm] * (case.algorithm != 'fedavg')
  return ', '.join(words + ['unequal'] * case.unequal)


def _entry(result: dict[str, Any], column) -> str:
  """An entry, '-' where it isn't known."""
  if not result:
    return '-'
  if 'error' in result:
    return 'fails'
  try:
    return column(result)
  except KeyError:
    return '-'


def _quantity(value: float) -> str:
  return f'{value:,.0f}' if value >= 10 else f'{value:.2g}'


def _collectives(result: dict[str, Any]) -> str:
  """Of a round, in words; those of an evaluation are another's."""
  counts = {kind: count for kind, count in result['collectives'].items()
            if kind != 'evaluation'}
  return str(sum(counts.values()))


_COMMON = {
    'lanes': lambda r: str(r['lanes']),
    'phases': lambda r: str(r['phases']),
    'kernels a step': lambda r: str(r['kernels']),
    'MB a step': lambda r: _quantity(r['bytes'] / 1e6),
    'floor a step, ms': lambda r: _quantity(1e3 * r['floor_seconds']),
    'temporary, MB': lambda r: _quantity(r['temporary_bytes'] / 1e6),
    'collectives': _collectives,
}
_COLUMNS = {
    'gpu': _COMMON | {
        'graphs': lambda r: str(r['graphs']),
        'loops by the host': lambda r: str(r['host_loops'])},
    'tpu': _COMMON | {
        'padding': lambda r: f'{r["padding"]:.0%}',
        'loops over lanes': lambda r: str(len(r['lane_loops']))},
}
