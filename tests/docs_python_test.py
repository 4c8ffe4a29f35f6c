"""The Python blocks of docs/python.md run as they stand, one after another."""

import re
from pathlib import Path

import numpy as np

from fedjax_sim.experiment import plots

PAGE = Path(__file__).parent.parent / 'docs' / 'python.md'


def test_the_blocks_run(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  monkeypatch.setattr(plots, '_save', lambda figure, path: path.touch())
  names = {}
  for block in re.findall(r'```python\n(.*?)```', PAGE.read_text(), re.S):
    exec(compile(block, 'python.md', 'exec'), names)
  assert len(names['more'].records) == 16
  assert names['record']['round'] == 3
  assert names['keep'].round in (0, 5, 10, 15, 20)
  np.testing.assert_allclose(
      names['same'], names['result'].predict(names['test']['x']), rtol=1e-5,
      atol=1e-6)
