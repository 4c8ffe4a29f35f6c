"""The Python blocks of docs/python.md run as they stand, one after another."""

import inspect
import re
from pathlib import Path

import numpy as np

import fedjax_sim as fs
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
  fields = {key for record in names['result'].records for key in record}
  assert 'padded_steps' in fields
  assert [key for key in fields if f'`{key}`' not in PAGE.read_text()] == []
  assert names['keep'].round in (0, 5, 10, 15, 20)
  assert names['reached'] is None or 0 < names['reached'] <= 10
  np.testing.assert_allclose(
      names['same'], names['result'].predict(names['test']['x']), rtol=1e-5,
      atol=1e-6)


def test_every_argument_of_simulate_is_listed():
  _, rest = PAGE.read_text().split('All arguments of `simulate`')
  table, _ = rest.split('##', 1)
  assert set(re.findall(r'`(\w+)`', table)) == set(
      inspect.signature(fs.simulate).parameters)
