"""Authors as clients, windows of words as examples, the vocabulary."""

import json
import lzma
import os
from pathlib import Path

import numpy as np
import pytest

from fedjax_sim.data.sets import load as load_lib
from fedjax_sim.data.sets import messages
from fedjax_sim.models import language

PAD, BOS, EOS, OOV = messages.PAD, messages.BOS, messages.EOS, messages.OOV


def test_the_word_lstm_knows_the_special_tokens():
  assert (language.EOS, language.OOV) == (EOS, OOV)
  assert len({PAD, BOS, EOS, OOV}) == 4


def test_a_message_is_padded_and_ends_in_eos():
  data = messages.encode([['a', 'b', 'x']], {'a': 4, 'b': 5})
  assert data['x'].dtype == data['y'].dtype == np.int16
  assert data['x'].tolist() == [[BOS, 4, 5, OOV] + [PAD] * 6]
  assert data['y'].tolist() == [[4, 5, OOV, EOS] + [-1] * 6]


@pytest.mark.parametrize('size', [1, 8, 9, 10, 11, 19, 20, 33])
def test_every_word_is_predicted_once_from_the_token_before(size):
  words = {str(i): i + 4 for i in range(size)}
  data = messages.encode([list(words), ['0']], words)
  first = -(-(size + 1) // 10)  # Windows of the first message.
  assert data['x'].shape == data['y'].shape == (first + 1, 10)
  tokens = [*words.values()]
  real = data['y'][:first] >= 0
  assert data['y'][:first][real].tolist() == [*tokens, EOS]
  assert data['x'][:first][real].tolist() == [BOS, *tokens]
  assert data['x'][first, :2].tolist() == [BOS, 4]
  # Nothing behind the end, and it is at the end only.
  assert (np.diff(real.reshape(-1).astype(int)) <= 0).all()


def author(name, *texts):
  return name, [text.split() for text in texts]


def some_authors(count=20):
  return [author(f'a{i:02}', 'same words', f'own{i} words') for i in
          range(count)]


def test_every_tenth_author_is_for_test_alone():
  data = messages.by_author(some_authors(23))
  assert data.client_ids == [f'a{i:02}' for i in range(23) if i % 10 != 9]
  assert [len(own) for own in data.partition] == [2] * 21
  assert len(data.test['x']) == 4 and len(data.train['x']) == 42
  # Their own words are unknown, those of clients are not.
  assert (data.test['y'] == OOV).sum() == 2
  assert not (data.train['y'] == OOV).any()
  for examples in (data.train, data.test):
    assert (examples['y'] == EOS).sum() == len(examples['y'])
    assert not np.isin(examples['y'], (PAD, BOS)).any()


def test_clients_are_sorted_by_name():
  backwards = some_authors(11)[::-1]  # The tenth is a01.
  data = messages.by_author(backwards)
  assert data.client_ids == sorted({f'a{i:02}' for i in range(11)} - {'a01'})
  own = data.train['y'][data.partition[1]]
  words = messages.vocabulary([one for one in backwards if one[0] != 'a01'])
  assert own[1][:2].tolist() == [words['own2'], words['words']]


def test_the_vocabulary_is_the_most_frequent_words(monkeypatch):
  authors = [author('a', 'c c c b', 'b a'), author('b', 'a', 'd')]
  assert messages.vocabulary(authors) == {'c': 4, 'a': 5, 'b': 6, 'd': 7}
  monkeypatch.setattr(messages, 'NUM_TOKENS', 7)
  assert messages.vocabulary(authors) == {'c': 4, 'a': 5, 'b': 6}


def test_the_vocabulary_has_10_000_tokens_at_most():
  words = messages.vocabulary([('a', [[str(i) for i in range(12_000)]])])
  assert len(words) == 9_996
  assert sorted(words.values()) == list(range(4, 10_000))


def test_fewer_than_ten_authors_are_an_error():
  with pytest.raises(ValueError, match='at least 10 authors, got 9'):
    messages.by_author(some_authors(9))


def write(path, authors):
  pack = lzma.compress if path.suffix == '.xz' else bytes
  path.write_bytes(pack(''.join(
      json.dumps({'client': name, 'messages': texts}) + '\n'
      for name, texts in authors).encode()))
  return path


def test_reading_caps_an_author_s_words(tmp_path):
  path = write(tmp_path / 'm.jsonl', [
      ('a', ['w ' * 4_000, 'w ' * 1_001, 'w']), ('b', ['x ' * 5_000, 'x']),
      ('c', ['', '  ']), ('d', [' One\ttwo ', '', 'three'])])
  authors = dict(messages.read(path))
  assert [len(words) for words in authors['a']] == [4_000]
  assert [len(words) for words in authors['b']] == [5_000]
  assert 'c' not in authors
  assert authors['d'] == [['One', 'two'], ['three']]


@pytest.mark.parametrize('name', ['a.jsonl', 'b.jsonl.xz',
                                  'messages/c.jsonl'])
@pytest.mark.parametrize('variable', [False, True])
def test_a_folder_of_the_user_s(tmp_path, monkeypatch, name, variable):
  path = tmp_path / name
  path.parent.mkdir(exist_ok=True)
  write(path, [(f'a{i}', ['some words']) for i in range(10)])
  monkeypatch.delenv('FEDJAX_SIM_DATA_DIR', raising=False)
  if variable:
    monkeypatch.setenv('FEDJAX_SIM_DATA_DIR', str(tmp_path))
  data = load_lib.load('messages', '' if variable else tmp_path)
  assert data.num_classes == 10_000 and data.name == 'messages'
  assert data.natural.client_ids == [f'a{i}' for i in range(9)]


def test_without_a_file_the_error_says_what_is_needed(tmp_path, monkeypatch):
  monkeypatch.delenv('FEDJAX_SIM_DATA_DIR', raising=False)
  with pytest.raises(load_lib.DataUnavailableError) as caught:
    load_lib.load('messages', tmp_path)
  for part in ('1. data_dir', r'has no *.jsonl', '2. $FEDJAX_SIM_DATA_DIR: not',
               'fedjax_sim.data.sets.messages'):
    assert part in str(caught.value)


@pytest.mark.parametrize('names, message', [
    (['a.jsonl', 'b.jsonl.xz'], 'one file .* got a.jsonl, b.jsonl.xz'),
    (['a.jsonl'], "a.jsonl, line 1 must be .* a string 'client'")])
def test_files_that_are_not_right_are_errors(tmp_path, names, message):
  for name in names:
    (tmp_path / name).write_text('{"author": "a", "messages": []}')
  with pytest.raises(ValueError, match=message):
    load_lib.load('messages', tmp_path)


def test_the_real_file():
  folder = Path(os.environ.get('FEDJAX_SIM_DATA_DIR', '')) / 'irc_ubuntu'
  if not folder.is_dir():
    pytest.skip(f'there is no {folder}')
  data = load_lib.load('messages', folder)
  assert len(data.natural.client_ids) == 8_445 - 844
  for examples in (data.train, data.test):
    assert 0 <= examples['x'].min() and examples['x'].max() < 10_000
    labels = examples['y'][examples['y'] >= 0]
    assert labels.min() >= EOS and labels.max() < 10_000
    assert 0.01 < np.mean(labels == OOV) < 0.05
  assert len(np.unique(data.train['y'])) == 10_000 - 2 + 1
