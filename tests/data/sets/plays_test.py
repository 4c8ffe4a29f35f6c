"""Who says what, out of each layout."""

import json
import lzma

import pytest

from fedjax_sim.data.sets import plays
from tests.data.sets import small_plays


def test_the_posting():
  lines = small_plays.POSTING.split('\n')
  assert plays.from_gutenberg(lines) == small_plays.ROLES


def test_another_layout_has_no_roles():
  assert plays.from_gutenberg(['by William Shakespeare', '', 'ANNE.', 'Yes']
                              ) == []
  assert plays.from_gutenberg([]) == []


def test_markdown():
  documents = {title: text for title, text in small_plays.MARKDOWN.items()
               if title != 'edward-iii'}
  assert plays.from_markdown(documents) == small_plays.SPOKEN


def test_records(tmp_path):
  path = tmp_path / 'roles.jsonl.xz'
  with lzma.open(path, 'wt', encoding='utf-8') as file:
    for role in small_plays.ROLES:
      file.write(json.dumps({'user': 'any', **role._asdict()}) + '\n')
    file.write('\n')
  assert plays.from_records(path) == small_plays.ROLES


@pytest.mark.parametrize('line, message', [
    ('{"play": "P", "character": "C", "lines": ["a"]', 'line 2 is no JSON'),
    ('["play"]', "line 2 must be .* a string 'play'"),
    ('{"play": "P", "character": 3, "lines": ["a"]}', "string 'character'"),
    ('{"play": "P", "character": "C", "lines": "a"}',
     "list of strings 'lines'"),
    ('{"play": "P", "character": "C", "lines": [1]}',
     "list of strings 'lines'")])
def test_bad_records(tmp_path, line, message):
  path = tmp_path / 'roles.jsonl'
  path.write_text('{"play": "P", "character": "C", "lines": []}\n' + line)
  with pytest.raises(ValueError, match=message):
    plays.from_records(path)
