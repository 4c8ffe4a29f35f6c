"""Whether FedJAX 0.0.17 and we read each other's SQLite files.

  python -m benchmarks.speed --setup fedjax     FedJAX's environment
  python -m benchmarks.sqlite                   both directions

Says 'equal' for each direction if all clients' arrays come back equal, value by
value and dtype by dtype. It is a check, and measures no time.
"""

import subprocess
import tempfile
from pathlib import Path

from benchmarks import contenders
from benchmarks.peers import sqlite_fedjax
from fedjax_sim import data


def with_fedjax(action: str, path: Path) -> str:
  """Runs the script in FedJAX's environment."""
  python = contenders.folder('fedjax') / 'bin' / 'python'
  return subprocess.run(
      [python, '-m', 'benchmarks.peers.sqlite_fedjax', action, path],
      check=True, cwd=contenders.ROOT, capture_output=True, text=True).stdout


def main() -> None:
  want = dict(sqlite_fedjax.clients())
  with tempfile.TemporaryDirectory() as folder:
    theirs, ours = Path(folder) / 'theirs', Path(folder) / 'ours'
    with_fedjax('write', theirs)
    got = dict(data.iterate_sqlite(theirs))
    read = got.keys() == want.keys() and all(
        sqlite_fedjax.same(got[name], want[name]) for name in want)
    print('written by FedJAX, read by us:', 'equal' if read else 'DIFFERENT')
    data.write_sqlite(ours, want.items())
    written = with_fedjax('read', ours).strip() == 'True'
    print('written by us, read by FedJAX:', 'equal' if written else 'DIFFERENT')


if __name__ == '__main__':
  main()
