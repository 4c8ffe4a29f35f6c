"""The tables of docs/gpu.md, from benchmarks/results/gpu.jsonl alone."""

import json
import re
from typing import Any

from benchmarks.contenders import CONTENDERS, ROOT
from benchmarks.gpu import blocks as blocks_lib

RESULTS = ROOT / 'benchmarks' / 'results' / 'gpu.jsonl'
PAGE = ROOT / 'docs' / 'gpu.md'
_TITLES = {
    'ours': 'fedjax_sim',
    'ours_host_loops': 'fedjax_sim, loops driven by the host',
    'ours_native': 'fedjax_sim, XLA\'s own convolution',
    'ours_patches': 'fedjax_sim, convolution by patches',
    'ours_rows': 'fedjax_sim, convolution by rows',
    'ours_lanes_250': 'fedjax_sim, 250 lanes',
    'ours_before': 'fedjax_sim, before the changes below',
}


def lines(name: str, results: dict[str, dict[str, Any]]) -> str:
  """A block's results in a few words, for the log."""
  return '\n'.join(f'  {name}: {contender}: {_in_words(result)}'
                   for contender, result in results.items())


def _in_words(result: dict[str, Any]) -> str:
  if 'error' in result:
    return result['error']
  words = f'{1e3 * result["median"]:.2f} ms'
  if 'ratio' in result:
    words += f', {result["ratio"]:.2f} times ours'
    words += '' if result['valid'] else ', INVALID'
  return words


def read() -> dict[str, dict[str, Any]]:
  """The last result of each block."""
  if not RESULTS.exists():
    return {}
  return {r['block']: r for r in map(json.loads, RESULTS.open())}


def table(results: dict[str, dict[str, Any]]) -> str:
  """A row for each contender of each block."""
  rows = ['| | a round | times ours | predicted |', '|---|---|---|---|']
  for block in blocks_lib.blocks():
    if block.name not in results:
      continue
    rows.append(f'| **{block.title}** | | | |')
    result = results[block.name]
    for name, one in result['contenders'].items():
      rows.append(f'| {title(name)} | ' + entry(
          one, result['predicted'].get(name)) + ' |')
  return '\n'.join(rows)


def title(name: str) -> str:
  return _TITLES.get(name) or CONTENDERS[name].title


def entry(one: dict[str, Any], predicted: float | None) -> str:
  """Milliseconds, ratio and prediction of one contender."""
  said = '-' if predicted is None else f'{predicted:g} ms'
  if 'error' in one:
    return f'- | - | {said}'
  ratio = f'{one["ratio"]:.2f}' if one.get('valid') else 'invalid'
  return f'{1e3 * one["median"]:.2f} ms | {ratio} | {said}'


def write() -> None:
  """Puts the table into the page."""
  results = read()
  where = sorted({f'{r["device"]}, {r["date"]}' for r in results.values()})
  text = f'{table(results)}\n\n{"; ".join(where)}.\n'
  PAGE.write_text(re.sub(
      r'(?<=<!-- gpu -->\n).*?(?=<!-- end gpu -->)', lambda _: text,
      PAGE.read_text(), flags=re.S))
