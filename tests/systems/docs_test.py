"""The Python blocks of docs/systems.md run as they stand."""

import re
from pathlib import Path

import numpy as np

PAGE = Path(__file__).parents[2] / 'docs' / 'systems.md'


def test_the_blocks_run():
  names = {}
  for block in re.findall(r'```python\n(.*?)```', PAGE.read_text(), re.S):
    exec(compile(block, PAGE.name, 'exec'), names)
  assert names['seconds'][0] == 0 and np.all(np.diff(names['seconds']) > 0)
