"""The Python blocks of the pages on systems and time run as they stand."""

import re
from pathlib import Path

import numpy as np
import pytest

DOCS = Path(__file__).parents[2] / 'docs'


def run_blocks(page):
  names = {}
  for block in re.findall(
      r'```python\n(.*?)```', (DOCS / page).read_text(), re.S):
    exec(compile(block, page, 'exec'), names)
  return names


@pytest.mark.parametrize('page', ['systems.md', 'asynchronous.md'])
def test_the_blocks_on_time_run(page):
  seconds = run_blocks(page)['seconds']
  assert seconds[0] == 0 and np.all(np.diff(seconds) > 0)


def test_the_block_on_selection_runs():
  names = run_blocks('selection.md')
  assert [len(set(cohort)) for cohort in names['chosen']] == [5] * 10
  assert names['result'].records[-1]['measured'] == 15
