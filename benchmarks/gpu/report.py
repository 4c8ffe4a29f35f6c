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
    'ours_native': "fedjax_sim, XLA's own convolution",
    'ours_patches': 'fedjax_sim, convolution by patches',
    'ours_lanes_250': 'fedjax_sim, 250 lanes',
    'ours_without_graphs': 'fedjax_sim, kernels launched one by one',
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


def read() -> dict[str, list[dict[str, Any]]]:
  """The results of each block, the last one last."""
  blocks: dict[str, list[dict[str, Any]]] = {}
  if RESULTS.exists():
    for line in RESULTS.read_text().splitlines():
      result = json.loads(line)
      blocks.setdefault(result['block'], []).append(result)
  return blocks


def table(results: dict[str, list[dict[str, Any]]]) -> str:
  """A row for each contender of each block, ours of earlier runs as well."""
  rows = ['| | a round | times ours | predicted |', '|---|---|---|---|']
  for block in blocks_lib.blocks():
    if block.name not in results:
      continue
    rows.append(f'| **{block.title}** | | | |')
    *earlier, last = results[block.name]
    for name, one in last['contenders'].items():
      rows.append(f'| {title(name)} | ' + entry(
          one, last['predicted'].get(name)) + ' |')
    for run in earlier:
      for name, one in run['contenders'].items():
        if name.startswith('ours'):
          rows.append(
              f'| {title(name)}, revision {run["git_commit"][:7]} | '
              f'{1e3 * one["median"]:.2f} ms | - | - |')
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
  where = sorted({f'{r["device"]}, {r["date"]}'
                  for runs in results.values() for r in runs})
  text = f'{table(results)}\n\n{"; ".join(where)}.\n'
  PAGE.write_text(re.sub(
      r'(?<=<!-- gpu -->\n).*?(?=<!-- end gpu -->)', lambda _: text,
      PAGE.read_text(), flags=re.S))
