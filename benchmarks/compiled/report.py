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
  before = {case_of(r): r for r in results
            if r['revision'].startswith(BEFORE)}
  after = {case_of(r): r for r in results
           if not r['revision'].startswith(BEFORE)}
  rows = []
  for target, described in TARGETS.items():
    rows += ['', f'**{described.title}**', '',
             '| model, M, devices | ' + ' | '.join(_COLUMNS[target]) + ' |',
             '|---|' + '---|' * len(_COLUMNS[target])]
    for case in sorted(matrix.cases(), key=_order):
      pair = before.get(case, {}), after.get(case, {})
      if case.target == target and any(pair):
        rows.append(f'| {_title(case)} | ' + ' | '.join(
            change(*(_entry(one, column) for one in pair))
            for column in _COLUMNS[target].values()) + ' |')
  return '\n'.join(rows[1:])


def change(before: str, after: str) -> str:
  """'before → after', or once what is alike; '-' is unknown."""
  return after if before == after else f'{before} → {after}'


def page() -> str:
  """The page with the table of committed results in it."""
  results = read()
  versions = sorted({f'{name} {version}' for result in results
                     for name, version in result.get('versions', {}).items()})
  names = sorted({r['revision'][:7] for r in results})
  dates = sorted({r['date'] for r in results})
  text = (f'{table(results)}\n\nRevisions {", ".join(names)}; '
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
