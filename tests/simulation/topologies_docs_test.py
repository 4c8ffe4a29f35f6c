"""The Python blocks of docs/topologies.md run as they stand."""

import re
from pathlib import Path

import numpy as np

PAGE = Path(__file__).parents[2] / 'docs' / 'topologies.md'


def test_the_blocks_run():
  names = {}
  for block in re.findall(r'```python\n(.*?)```', PAGE.read_text(), re.S):
    exec(compile(block, PAGE.name, 'exec'), names)
  assert len(names['result'].records) == 11
  # Edges of clients with the same labels, and of all.
  label = np.array(names['main_label'])
  of_edges = lambda edge_of: np.mean(
      [len(set(label[edge_of == e])) for e in range(4)])
  assert of_edges(names['different']) < of_edges(names['alike'])
