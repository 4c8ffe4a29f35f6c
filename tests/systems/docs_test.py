"""The Python blocks of the pages on simulated time run as they stand."""

import re
from pathlib import Path

import numpy as np
import pytest

DOCS = Path(__file__).parents[2] / 'docs'


@pytest.mark.parametrize('name', ['systems.md', 'asynchronous.md'])
def test_the_blocks_run(name):
  names = {}
  text = (DOCS / name).read_text()
  for block in re.findall(r'```python\n(.*?)```', text, re.S):
    exec(compile(block, name, 'exec'), names)
  assert names['seconds'][0] == 0 and np.all(np.diff(names['seconds']) > 0)
