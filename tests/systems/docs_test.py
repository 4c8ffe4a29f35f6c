"""The Python blocks of docs/systems.md and docs/selection.md run as they stand.
"""

import re
from pathlib import Path

import numpy as np

DOCS = Path(__file__).parents[2] / 'docs'


def run_blocks(page):
  names = {}
  for block in re.findall(
      r'```python\n(.*?)```', (DOCS / page).read_text(), re.S):
    exec(compile(block, page, 'exec'), names)
  return names


def test_the_blocks_on_systems_run():
  seconds = run_blocks('systems.md')['seconds']
  assert seconds[0] == 0 and np.all(np.diff(seconds) > 0)


def test_the_block_on_selection_runs():
  names = run_blocks('selection.md')
  assert [len(set(cohort)) for cohort in names['chosen']] == [5] * 10
  assert names['result'].records[-1]['measured'] == 15
