"""Runs whose clients' states are on disk go on after a kill, bit for bit.

A simulated kill is an exception at a point of the program; what was written to
the store and not flushed is spoilt then, as where the power fails.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from fedjax_sim.data import sampling
from fedjax_sim.experiment import client_checkpoints, loop
from fedjax_sim.experiment.checkpoints import Checkpoints
from fedjax_sim.experiment.client_checkpoints import RunCheckpoints
from fedjax_sim.simulation import build as build_lib
from fedjax_sim.simulation.placement import client_store, stored_states
from fedjax_sim.simulation.placement.client_store import ClientStore
from fedjax_sim.simulation.placement.stored_states import StoredStates
from fedjax_sim.simulation.traffic import Traffic
from tests import toys
from tests.simulation.placement.client_states_test import (
    MODEL,
    ROW_BYTES,
    SIZES,
    personal,
)

ROUNDS = 8
EVERYONE = np.arange(len(SIZES))


class Kill(BaseException):
  """In place of a signal."""


def build(client_state):
  return build_lib.build(
      MODEL, personal(), toys.softmax_data(SIZES),
      sampling.uniform(len(SIZES), 3, 0), devices=1, lanes=2,
      client_state=client_state)


def go(folder, simulation, rounds=ROUNDS):
  """A run, or the rest of it, with a checkpoint after every two rounds."""
  folder.mkdir(exist_ok=True)
  cadence = loop.Cadence(rounds, lambda r: False, rounds_per_dispatch=2)
  files = {0: folder / loop.METRICS_FILE}
  with Checkpoints(folder / 'checkpoints', keep=2) as saved:
    checkpoints = RunCheckpoints(checkpoints=saved, folder=folder)
    initial = simulation.init(folder / client_checkpoints.FOLDER)
    state = loop.restore(simulation, initial, checkpoints, files)
    return loop.train(
        simulation, state, cadence, files=files, checkpoints=checkpoints,
        traffic=Traffic(1, 1)).state


def states_of(state):
  if isinstance(state.clients, StoredStates):
    return state.clients.store.read(EVERYONE)
  return jax.device_get((state.clients, state.transforms))


def assert_same(got, want):
  jax.tree.map(np.testing.assert_array_equal, got.server, want.server)
  jax.tree.map(
      np.testing.assert_array_equal, states_of(got), states_of(want))


@pytest.fixture(scope='module')
def simulations():
  """By where states are; windows of the stored ones are one or two rounds."""
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(stored_states, '_BUFFER_BYTES', 5 * ROW_BYTES)
    return {name: build(name) for name in ('stored', 'device')}


@pytest.fixture(scope='module')
def whole(simulations, tmp_path_factory):
  return go(tmp_path_factory.mktemp('whole') / 'run', simulations['device'])


def killing(monkeypatch, owner, name, call, after=False):
  """Raises before, or after, the `call`-th call (from 1) of a function."""
  original, calls = getattr(owner, name), []
  def killed(*args, **kwargs):
    calls.append(name)
    if len(calls) == call and not after:
      raise Kill
    result = original(*args, **kwargs)
    if len(calls) == call:
      raise Kill
    return result
  monkeypatch.setattr(owner, name, killed)


def half_written(monkeypatch, call):
  """Raises when the `call`-th write has written half of the clients."""
  original, calls = ClientStore.write, []
  def write(self, clients, states):
    calls.append(len(clients))
    if len(calls) < call:
      return original(self, clients, states)
    half = slice(len(clients) // 2)
    original(self, clients[half], jax.tree.map(lambda x: x[half], states))
    raise Kill
  monkeypatch.setattr(ClientStore, 'write', write)


STAGES = {
    'before rows are written': lambda m, n: killing(
        m, ClientStore, 'write', n),
    'while rows are written': half_written,
    'after rows are written': lambda m, n: killing(
        m, ClientStore, 'write', n, after=True),
    'while the file grows': lambda m, n: killing(m, ClientStore, '_grow', n),
    'before the flush': lambda m, n: killing(m, ClientStore, 'flush', n),
    'after the flush': lambda m, n: killing(
        m, ClientStore, 'flush', n, after=True),
    'before the checkpoint': lambda m, n: killing(m, Checkpoints, 'save', n),
    'in the checkpoint': lambda m, n: killing(m, os, 'rename', n),
    'after the checkpoint': lambda m, n: killing(
        m, Checkpoints, 'save', n, after=True),
    'before the note': lambda m, n: killing(m, ClientStore, '_write_meta', n),
    'in the note': lambda m, n: killing(m, os, 'replace', n),
    'after the note': lambda m, n: killing(
        m, ClientStore, '_write_meta', n, after=True),
    'when all is done': lambda m, n: killing(
        m, ClientStore, 'adopt', n, after=True),
}


def spoil(folder, flushed):
  """Garbage for all records that are not as they were at the last flush."""
  file = folder / client_checkpoints.FOLDER / 'records.bin'
  if not file.exists():
    return
  record_bytes = ROW_BYTES + 4  # With the checksum.
  now = np.fromfile(file, np.uint8).reshape(-1, record_bytes)
  before = np.full_like(now, 171)
  if flushed:
    kept = np.frombuffer(flushed[-1], np.uint8).reshape(-1, record_bytes)
    before[:len(kept)] = kept
  now[(now != before).any(axis=1)] = 171
  now.tofile(file)


@pytest.mark.bits
@pytest.mark.parametrize('call', [2, 3])
@pytest.mark.parametrize('stage', STAGES)
def test_a_kill_at_any_stage(
    stage, call, simulations, whole, tmp_path, monkeypatch):
  monkeypatch.setattr(client_store, '_GROWTH_BYTES', 1)
  folder, flushed, killed = tmp_path / 'run', [], False
  original = ClientStore.flush
  def flush(self):
    original(self)
    if self._file is not None:
      flushed.append(Path(self._file.name).read_bytes())
  with monkeypatch.context() as patch:
    patch.setattr(ClientStore, 'flush', flush)
    STAGES[stage](patch, call)
    try:
      go(folder, simulations['stored'])
    except Kill:
      killed = True
  assert killed
  spoil(folder, flushed)
  assert_same(go(folder, simulations['stored']), whole)


def test_two_kills_and_what_the_folder_holds(
    simulations, whole, tmp_path, monkeypatch):
  folder = tmp_path / 'run'
  for call in (3, 2):
    with monkeypatch.context() as patch:
      killing(patch, ClientStore, 'flush', call)
      with pytest.raises(Kill):
        go(folder, simulations['stored'])
  state = go(folder, simulations['stored'])
  assert_same(state, whole)
  # Checkpoints hold a number a client, and no state.
  with Checkpoints(folder / 'checkpoints', keep=2) as checkpoints:
    shapes = checkpoints.shapes(ROUNDS)
  assert [s for name, s in shapes.items() if name.startswith('clients')] == [
      (len(SIZES),)]
  assert state.clients.store.num_records <= 1 + len(SIZES) + 2 * 2 * 3


@pytest.mark.bits
def test_a_run_goes_on_with_states_elsewhere(simulations, whole, tmp_path):
  for first in ('stored', 'device'):
    other = {'stored': 'device', 'device': 'stored'}[first]
    folder = tmp_path / first
    for rounds, where in ((2, first), (4, other), (6, first), (8, other)):
      state = go(folder, simulations[where], rounds)
    assert_same(state, whole)


def test_states_that_are_gone(simulations, tmp_path):
  folder = tmp_path / 'run'
  go(folder, simulations['stored'], 4)
  (folder / client_checkpoints.FOLDER / 'records.bin').unlink()
  for name in ('stored', 'device'):
    with pytest.raises(ValueError, match='round 4 needs the client states'):
      go(folder, simulations[name])


def test_a_process_that_is_killed(whole, simulations, tmp_path):
  folder, rounds = tmp_path / 'run', 40
  code = ('from pathlib import Path; '
          'from tests.experiment.client_checkpoints_test import build, go; '
          f'go(Path({str(folder)!r}), build("stored"), {rounds})')
  process = subprocess.Popen(
      [sys.executable, '-c', code], stdout=subprocess.DEVNULL,
      cwd=Path(__file__).parents[2])
  file = folder / 'metrics.jsonl'
  while not file.exists() or file.read_bytes().count(b'\n') < 11:
    assert process.poll() is None, 'the run ended before it could be killed'
    time.sleep(0.01)
  process.send_signal(signal.SIGKILL)
  assert process.wait() == -signal.SIGKILL
  want = go(tmp_path / 'whole', simulations['device'], rounds)
  assert_same(go(folder, simulations['stored'], rounds), want)
