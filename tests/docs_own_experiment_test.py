"""The Python blocks of docs/own_experiment.md run as they stand."""

import re
from pathlib import Path

import pytest

from fedjax_sim import data
from fedjax_sim.data.sets import load as load_lib

PAGE = Path(__file__).parent.parent / 'docs' / 'own_experiment.md'


@pytest.mark.mnist
@pytest.mark.slow
def test_the_blocks_run(tmp_path, monkeypatch):
  try:
    data.load('mnist')
  except load_lib.DataUnavailableError as error:
    pytest.skip(str(error))
  monkeypatch.chdir(tmp_path)
  names = {}
  for block in re.findall(r'```python\n(.*?)```', PAGE.read_text(), re.S):
    exec(compile(block, PAGE.name, 'exec'), names)
  assert names['result'].best.value > 0.85
  assert names['loaded'].round == names['result'].best.round
  assert names['warm'].records[0]['round'] == 0
  assert (names['predicted'] == names['mnist'].test['y']).mean() > 0.3
  assert (tmp_path / 'losses.png').stat().st_size > 0
