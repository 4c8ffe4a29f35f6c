"""The Python block of the page on privacy runs as it stands."""

import re
from pathlib import Path

PAGE = Path(__file__).parents[2] / 'docs' / 'privacy.md'


def test_the_block_on_privacy_runs():
  (block,) = re.findall(r'```python\n(.*?)```', PAGE.read_text(), re.S)
  names = {}
  exec(compile(block, PAGE.name, 'exec'), names)
  assert 7.9 < names['guarantee'].epsilon <= 8.0
  # It learns, with the noise: chance is 0.1.
  assert names['result'].records[-1]['test/accuracy'] > 0.4
