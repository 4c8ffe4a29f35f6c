"""The Python blocks of docs/own_experiment.md run as they stand."""

import re
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds

from fedjax_sim import data
from tests.data.sets import small_tfds

PAGE = Path(__file__).parent.parent / 'docs' / 'own_experiment.md'


def write_mnist(folder):
  """A small set named mnist, whose digits are scikit-learn's."""
  digits = data.load('digits')
  pictures = folder / 'pictures'
  pictures.mkdir(parents=True)
  examples = lambda part, n: [
      {'image': small_tfds.png(pictures, np.kron(
          part['x'][i, :, :, 0], np.ones((4, 4), np.uint8))[2:30, 2:30]),
       'label': int(part['y'][i])} for i in range(n)]
  small_tfds.write(
      folder / 'mnist' / '3.0.1',
      {'image': tfds.features.Image(shape=(28, 28, 1)),
       'label': tfds.features.ClassLabel(num_classes=10)},
      {'train': examples(digits.train, 400), 'test': examples(digits.test, 50)},
      supervised=('image', 'label'))


@pytest.mark.slow
def test_the_blocks_run(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  monkeypatch.setenv('TFDS_DATA_DIR', str(tmp_path / 'prepared'))
  write_mnist(tmp_path / 'prepared')
  names = {}
  for block in re.findall(r'```python\n(.*?)```', PAGE.read_text(), re.S):
    exec(compile(block, PAGE.name, 'exec'), names)
  assert names['result'].best.value > 0.85
  assert names['loaded'].round == names['result'].best.round
  assert names['warm'].records[0]['round'] == 0
  assert (names['predicted'] == names['mnist'].test['y']).mean() > 0.3
  assert (tmp_path / 'losses.png').stat().st_size > 0
