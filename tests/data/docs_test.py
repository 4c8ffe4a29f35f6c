"""The blocks of docs/data.md run, on data that stand in for a reader's."""

import json
import pathlib
import re

import numpy as np
from ml_collections import ConfigDict

import fedjax_sim as fs
from fedjax_sim.data.sets import dataset as dataset_lib
from fedjax_sim.experiment import spec_fields

PAGE = pathlib.Path(__file__).parents[2] / 'docs' / 'data.md'


def test_every_block_runs(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  made = fs.data.Dataset(
      'made', {'x': np.zeros((2, 4)), 'y': np.arange(2)}, None, 2,
      dataset_lib.NaturalClients(['a', 'b'], [[0], [1]]))
  monkeypatch.setattr(fs.data, 'tfds', lambda name, **options: made)
  text = {'users': ['u'], 'num_samples': [1],
          'user_data': {'u': {'x': ['to be or'], 'y': ['n']}}}
  leaf = tmp_path / 'shakespeare' / 'data' / 'train'
  leaf.mkdir(parents=True)
  (leaf / 'a.json').write_text(json.dumps(text))
  x, y = np.zeros((200, 4), np.float32), np.arange(200) % 10
  arrays = tmp_path / 'arrays'
  arrays.mkdir()
  np.savez(arrays / 'ann.npz', x=x[:3], y=y[:3])
  config = ConfigDict({'dataset': ''})
  names = {'x': x, 'y': y, 'users': ['b', 'a'] * 100, 'folder': arrays,
           'dataset': list(zip(x, y, strict=True)), 'config': config}
  blocks = re.findall('```py\n(.*?)```', PAGE.read_text(), re.DOTALL)
  assert len(blocks) == 7
  for block in blocks:
    exec(block, names)
  assert names['federation'].client_ids == ['ann']
  assert names['by_label'].num_clients == 10


def test_every_spec_of_a_set_can_be_bound():
  found = re.findall(r"config.dataset = '(.*?)' *(?:#.*)?$", PAGE.read_text(),
                     re.MULTILINE)
  assert len(found) == 4
  for text in found:
    spec_fields.bind('dataset', text)
