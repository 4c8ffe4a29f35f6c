"""The code blocks of pages in docs/."""

import re
from pathlib import Path

DOCS = Path(__file__).parents[2] / 'docs'


def blocks(page: str = 'own_algorithm.md') -> list[str]:
  return re.findall(r'```py\n(.*?)```', (DOCS / page).read_text(), re.S)


def lasting_momentum(*args, **kwargs):
  """The page's algorithm."""
  names = {}
  exec(compile(blocks()[0], 'own_algorithm.md', 'exec'), names)
  return names['lasting_momentum'](*args, **kwargs)
