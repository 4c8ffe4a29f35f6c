"""Several processes: started on this machine, or one on each of several.

All run the same program on a mesh of all their devices (`jax.distributed`);
the first one alone prints and writes. Processes that `launch` has started share
out the cores. Where one ends early, the others are stopped and it is named.

Nothing that they send each other is authenticated or encrypted. Processes on
one machine listen at its loopback address only, where no other machine reaches
them; what to close for those of several machines is told in docs/runs.md.
"""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence

import jax

from fedjax_sim.core import checks
from fedjax_sim.experiment import loopback

# Seconds until a process that no longer answers is given up, by the others.
_HEARTBEAT_SECONDS = 30
# Seconds that the first process may take to start.
_START_SECONDS = 120.0
# Seconds that processes have to end by themselves once one has failed.
_GRACE_SECONDS = 5.0


def join(coordinator: str | None, count: int | None, index: int | None) -> None:
  """Joins the other processes; must come before JAX first computes anything.

  Args:
    coordinator: host:port of the first process; None finds it where the
      cluster's manager tells (Slurm, Kubernetes, TPU pods …).
    count: the number of processes, likewise.
    index: this one's number, from 0, likewise.

  Raises:
    ValueError: the numbers don't fit, or nobody answers at the coordinator.
  """
  local = coordinator is not None and loopback.is_local(coordinator)
  if coordinator is not None:
    _check_numbers(coordinator, count, index)
    if index > 0:
      _wait_for(coordinator)
  # Without an address to bind to JAX listens at all that the machine has.
  jax.distributed.initialize(
      coordinator, count, index,
      heartbeat_timeout_seconds=_HEARTBEAT_SECONDS,
      coordinator_bind_address=coordinator if local else None)
  if local:
    loopback.stay(coordinator.rpartition(':')[0])
  sys.excepthook = _leave
  if not is_first():
    sys.stdout = open(os.devnull, 'w')


def _check_numbers(coordinator: str, count: int, index: int) -> None:
  """ValueError for what JAX would tell in other names, or late."""
  checks.positive_int('processes', count)
  host, _, port = coordinator.rpartition(':')
  if not host or not port.isdigit():
    raise ValueError(
        f'coordinator must be host:port, got {coordinator!r}.')
  if not 0 <= index < count:
    raise ValueError(f'process must be from 0 to processes - 1 = {count - 1}, '
                     f'got {index}.')


def _wait_for(coordinator: str) -> None:
  """Until the first process listens; it may start later than this one."""
  host, _, port = coordinator.rpartition(':')
  begun, told = time.monotonic(), False
  while time.monotonic() - begun < _START_SECONDS:
    try:
      socket.create_connection((host, int(port)), timeout=5).close()
      return
    except OSError as error:
      reason = error
    if not told and time.monotonic() - begun > 5:
      print(f'waiting for the first process at {coordinator}', file=sys.stderr,
            flush=True)
      told = True
    time.sleep(0.2)
  raise ValueError(f'coordinator: nobody answers at {coordinator!r} within '
                   f'{_START_SECONDS:g} s ({reason}).')


def leave(code: int) -> None:
  """Ends this process at once if it has joined others; else does nothing.

  A plain exit would wait for the others, which wait for this one.
  """
  if jax.process_count() > 1:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _leave(kind, error, trace) -> None:
  sys.__excepthook__(kind, error, trace)
  leave(1)


def is_first() -> bool:
  """Whether this process prints and writes."""
  return jax.process_index() == 0


def launch(
    count: int, command: Callable[[int, str], Sequence[str]]
) -> int:
  """Runs processes on this machine until all have ended.

  Args:
    count: how many; at most one for each core.
    command: (index, coordinator) -> the command of that process.

  Returns:
    The exit code of the first process; 1 if any was killed or failed.

  Raises:
    ValueError: count is out of range.
  """
  checks.positive_int('processes', count)
  cores = sorted(os.sched_getaffinity(0))
  if count > len(cores):
    raise ValueError(f'processes must be at most the number of cores, '
                     f'{len(cores)}, got {count}.')
  coordinator = f'127.0.0.1:{_free_port()}'
  running = [subprocess.Popen(command(i, coordinator)) for i in range(count)]
  for i, process in enumerate(running):
    # Long before it has threads of its own, which inherit this.
    os.sched_setaffinity(process.pid, cores[i::count])
  forward = lambda number, frame: [p.send_signal(number) for p in running
                                   if p.poll() is None]
  # A terminal sends Ctrl-C to the processes too.
  earlier = (signal.signal(signal.SIGTERM, forward),
             signal.signal(signal.SIGINT, signal.SIG_IGN))
  try:
    return _watch(running)
  finally:
    for process in running:
      process.kill()
      process.wait()
    signal.signal(signal.SIGTERM, earlier[0])
    signal.signal(signal.SIGINT, earlier[1])


def _watch(running: Sequence[subprocess.Popen]) -> int:
  """Waits for all; once one fails the others get a moment to end."""
  poll = lambda: [process.poll() for process in running]
  while not any(poll()) and None in poll():
    time.sleep(0.1)
  first = poll()
  deadline = time.monotonic() + _GRACE_SECONDS
  while None in poll() and time.monotonic() < deadline:
    time.sleep(0.05)
  codes = poll()
  # All alike is a run that ended by itself: done, bad input, divergence.
  if len(set(codes)) == 1 and codes[0] >= 0:
    return codes[0]
  _tell(first, codes)
  return 1


def _tell(first: Sequence[int | None], codes: Sequence[int | None]) -> None:
  """Names who began: who was killed, else who hangs, else who failed.

  Those that wait for another process in vain abort, or hang too.
  """
  killed = [i for i, code in enumerate(first)
            if code and code < 0 and code != -signal.SIGABRT]
  hanging = [i for i, code in enumerate(codes) if code is None]
  failed = [i for i, code in enumerate(first) if code]
  index = (killed or hanging or failed)[0]
  if index in hanging:
    how = 'no longer answers'
  elif codes[index] < 0:
    how = f'was killed by {signal.Signals(-codes[index]).name}'
  else:
    how = f'ended with code {codes[index]}'
  print(f'error: process {index} of {len(codes)} {how}, so all were stopped. '
        'The same command goes on from the last checkpoint, if there is one, '
        'with any number of processes.', file=sys.stderr, flush=True)


def _free_port() -> int:
  with socket.socket() as listener:
    listener.bind(('127.0.0.1', 0))
    return listener.getsockname()[1]
