"""The README's Python block runs as it stands; what pages link to is there."""

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
README = ROOT / 'README.md'


def test_python_block_trains(capsys):
  (block,) = re.findall(r'```python\n(.*?)```', README.read_text(), re.S)
  names = {}
  exec(compile(block, 'README.md', 'exec'), names)
  # The last digits are those of another machine.
  (said,) = re.findall(r'```\naccuracy (\d\.\d+)\n```', README.read_text())
  printed = float(re.fullmatch(
      r'accuracy (\d\.\d+)\n', capsys.readouterr().out)[1])
  assert abs(printed - float(said)) < 0.05


def test_links_lead_to_files():
  pages = [README, *(ROOT / 'docs').glob('*.md'), ROOT / 'CONTRIBUTING.md']
  missing = [
      (page.name, link) for page in pages
      for link in re.findall(r'\]\(([^)#:]+?)(?:#[^)]*)?\)', page.read_text())
      if not (page.parent / re.sub(r'\s+', '', link)).exists()]
  assert not missing


def test_readme_is_short():
  words = [w for w in README.read_text().split() if re.search(r'\w', w)]
  assert len(words) < 700
