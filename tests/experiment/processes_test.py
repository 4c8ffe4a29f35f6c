"""Runs in two real processes, and what happens when one of them dies."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from configs import digits_quickstart
from fedjax_sim.experiment import loopback, processes
from fedjax_sim.experiment import run as run_lib
from fedjax_sim.experiment.checkpoints import Checkpoints

ROOT = Path(__file__).parents[2]
ROUNDS = 60


def command(folder, *flags):
  """Clients of unequal sizes; a checkpoint after every dispatch."""
  return [sys.executable, ROOT / 'run.py',
          f'--config={ROOT}/configs/digits_quickstart.py',
          f'--workdir={folder}', f'--config.rounds={ROUNDS}',
          '--config.model=logistic_regression',
          '--config.partition=quantity(sigma=1.0)',
          '--config.lanes=2', '--config.rounds_per_dispatch=5',
          '--config.checkpoint_seconds=0',
          *flags]


def run(folder, *flags):
  return subprocess.run(command(folder, *flags), capture_output=True,
                        text=True, timeout=300)


def params(folder):
  with np.load(folder / 'final_params.npz') as arrays:
    return dict(arrays)


def assert_same_run(folder, want):
  for name, values in params(want).items():
    # Rounds amplify the last digits; another seed differs by 0.1.
    np.testing.assert_allclose(params(folder)[name], values, atol=5e-4)
  lines = [(f / 'metrics.jsonl').read_text().splitlines()
           for f in (folder, want)]
  assert len(lines[0]) == len(lines[1]) == 1 + ROUNDS  # Round 0 too.


def run_here(folder, **fields):
  """The same run in this process, on one device."""
  config = digits_quickstart.get_config()
  config.update(rounds=ROUNDS, model='logistic_regression',
                partition='quantity(sigma=1.0)', lanes=2, devices=1, **fields)
  assert run_lib.run(config.lock(), 'test', workdir_path=folder) == 0


@pytest.fixture(scope='module')
def one_process(tmp_path_factory):
  folder = tmp_path_factory.mktemp('one')
  run_here(folder)
  return folder


@pytest.mark.slow
@pytest.mark.parametrize('fields', [
    {'sampler': 'power_of_choice(candidates=15)'},
    {'systems': 'lognormal', 'algorithm': 'fedbuff',
     'reporting': 'asynchronous(concurrency=15, max_lag=10)'}],
    ids=['selection', 'asynchronous'])
def test_two_processes_give_the_result_of_one(tmp_path, fields):
  """Where the hosts choose who reports when; the test below has plain rounds.
  """
  done = run(tmp_path / 'two', '--processes=2', *(
      f'--config.{name}={value}' for name, value in fields.items()))
  assert done.returncode == 0, done.stderr
  run_here(tmp_path / 'one', **fields)
  assert_same_run(tmp_path / 'two', tmp_path / 'one')
  # One of them prints and writes.
  assert done.stdout.count('final test accuracy') == 1


def children(process):
  file = Path(f'/proc/{process.pid}/task/{process.pid}/children')
  return [int(pid) for pid in file.read_text().split()]


def test_a_killed_process_ends_the_run_which_goes_on_with_one(
    tmp_path, one_process):
  """When it is killed, two processes have run most of the rounds."""
  folder = tmp_path / 'killed'
  process = subprocess.Popen(
      command(folder, '--processes=2'), stderr=subprocess.PIPE,
      stdout=subprocess.DEVNULL, text=True)
  deadline = time.monotonic() + 120
  while time.monotonic() < deadline:
    if any(int(p.name) >= ROUNDS // 2
           for p in folder.glob('checkpoints/*') if p.name.isdigit()):
      break
    time.sleep(0.05)
  os.kill(children(process)[1], signal.SIGKILL)
  begun = time.monotonic()
  _, errors = process.communicate(timeout=60)
  assert process.returncode == 1
  assert time.monotonic() - begun < 60
  assert 'process 1 of 2 was killed by SIGKILL' in errors
  with Checkpoints(folder / 'checkpoints', keep=3) as checkpoints:
    assert ROUNDS // 2 <= checkpoints.latest() < ROUNDS
  run_here(folder)
  assert_same_run(folder, one_process)


_JOINED = """
import os, sys, time
import jax
from fedjax_sim.experiment import processes
jax.config.update('jax_num_cpu_devices', 1)
processes.join(sys.argv[2], 2, int(sys.argv[1]))
from jax.experimental import multihost_utils
import numpy as np
add = lambda: multihost_utils.process_allgather(np.ones(3)).sum()
assert add() == 6
for _ in range(40):
  time.sleep(0.05)
  assert add() == 6
"""
_STRANGE = [b'', b'GET / HTTP/1.1\r\nHost: x\r\n\r\n', bytes(range(256)),
            b'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n' + b'\xff' * 99]


def listening(pid):
  """(address in hex, port) of the sockets at which a process listens."""
  own = set()
  for descriptor in Path(f'/proc/{pid}/fd').iterdir():
    with contextlib.suppress(OSError):
      own.add(os.readlink(descriptor))
  found = []
  for table in ('tcp', 'tcp6'):
    lines = Path(f'/proc/{pid}/net/{table}').read_text().splitlines()[1:]
    for fields in map(str.split, lines):
      if fields[3] == '0A' and f'socket:[{fields[9]}]' in own:
        address, port = fields[1].split(':')
        found.append((address, int(port, 16)))
  return found


LOOPBACK = {'0100007F', '0' * 16 + 'FFFF00000100007F', '0' * 24 + '01000000'}


def test_local_processes_listen_on_loopback_and_bear_strangers():
  """In one that has a name with another address, gloo would listen there."""
  with socket.socket() as free:
    free.bind(('127.0.0.1', 0))
    address = f'127.0.0.1:{free.getsockname()[1]}'
  environment = {k: v for k, v in os.environ.items() if k != 'XLA_FLAGS'}
  running = [subprocess.Popen(
      [sys.executable, '-c', _JOINED, str(i), address], stderr=subprocess.PIPE,
      text=True, cwd=ROOT, env=environment) for i in range(2)]
  seen, count = set(), 0
  deadline = time.monotonic() + 120
  while any(p.poll() is None for p in running):
    assert time.monotonic() < deadline
    for process in running:
      with contextlib.suppress(OSError):
        for place in listening(process.pid):
          seen.add(place)
          with socket.create_connection(('127.0.0.1', place[1]), 1) as stranger:
            stranger.sendall(_STRANGE[count % len(_STRANGE)])
            count += 1
    time.sleep(0.1)
  for process in running:
    assert process.wait() == 0, process.communicate()[1]
  # The coordinator, and each process for gloo.
  assert len(seen) == 3 and count > 20
  assert {place for place, _ in seen} <= LOOPBACK


@pytest.mark.parametrize('coordinator, local', [
    ('127.0.0.1:1', True), ('localhost:1', True), ('[::1]:1', True),
    ('127.8.0.1:1', True), ('10.0.0.1:1', False), ('node3:1', False),
    ('0.0.0.0:1', False)])
def test_which_addresses_are_of_this_machine_alone(coordinator, local):
  assert loopback.is_local(coordinator) == local


@pytest.mark.slow
def test_bad_input_is_told_once(tmp_path):
  done = run(tmp_path, '--processes=2', '--config.client_lr=-1')
  assert done.returncode == 1
  assert 'client_lr' in done.stderr and 'was stopped' not in done.stderr


def test_more_processes_than_cores():
  cores = len(os.sched_getaffinity(0))
  with pytest.raises(ValueError, match=f'number of cores, {cores}'):
    processes.launch(cores + 1, lambda index, coordinator: ['true'])


@pytest.mark.parametrize('codes, want', [((0, 0), 0), ((3, 3), 3), ((0, 7), 1)])
def test_exit_codes(monkeypatch, capfd, codes, want):
  monkeypatch.setattr(processes, '_GRACE_SECONDS', 0.5)
  shell = lambda code: ['sh', '-c', f'exit {code}' if code != 7
                        else 'sleep 0.1; exit 7']
  assert processes.launch(2, lambda i, c: shell(codes[i])) == want
  assert ('process 1 of 2 ended with code 7' in capfd.readouterr().err) == (
      7 in codes)


def test_a_process_that_hangs_is_stopped_with_the_others(monkeypatch, capfd):
  monkeypatch.setattr(processes, '_GRACE_SECONDS', 0.3)
  begun = time.monotonic()
  code = processes.launch(2, lambda i, c: (
      ['sleep', '100'] if i else ['sh', '-c', 'exit 4']))
  assert code == 1 and time.monotonic() - begun < 30
  assert 'process 1 of 2 no longer answers' in capfd.readouterr().err


def test_nobody_at_the_coordinator(monkeypatch):
  monkeypatch.setattr(processes, '_START_SECONDS', 0.5)
  with socket.socket() as free:
    free.bind(('127.0.0.1', 0))
    address = f'127.0.0.1:{free.getsockname()[1]}'
  with pytest.raises(ValueError, match=f'nobody answers at .{address}'):
    processes.join(address, 2, 1)


@pytest.mark.parametrize('arguments, message', [
    (('nohost', 2, 1), 'coordinator must be host:port'),
    (('host:1', 2, 2), 'process must be from 0 to processes - 1 = 1, got 2'),
    (('host:1', 0, 0), 'processes must be a whole number >= 1')])
def test_numbers_that_do_not_fit(arguments, message):
  with pytest.raises(ValueError, match=message):
    processes.join(*arguments)
