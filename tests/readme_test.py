"""The README's Python block runs as it stands, and learns."""

import re
from pathlib import Path

README = Path(__file__).parent.parent / 'README.md'


def test_python_block_trains(capsys):
  (block,) = re.findall(r'```python\n(.*?)```', README.read_text(), re.S)
  names = {}
  exec(compile(block, 'README.md', 'exec'), names)
  assert capsys.readouterr().out.startswith("{'round': 30")
  # Labels are balanced: chance is about 0.5.
  assert names['result'].records[-1]['test/accuracy'] > 0.85
