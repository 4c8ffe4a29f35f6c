"""The result file: a line for each search of a rate, and for its seeds."""

import datetime
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fedjax_sim.experiment import workdir

RESULTS = Path(__file__).parents[1] / 'results' / 'communication.jsonl'

Line = Mapping[str, Any]


def read(path: Path = RESULTS) -> dict[tuple[str, str, str], Line]:
  """(task, entry, phase) -> line."""
  if not path.exists():
    return {}
  lines = map(json.loads, path.read_text().splitlines())
  return {(line['task'], line['entry'], line['phase']): line for line in lines}


def append(line: Line, path: Path = RESULTS) -> None:
  """Adds a line, with the date and the machine."""
  line = {**line, 'date': datetime.date.today().isoformat(),
          'environment': workdir.environment()}
  path.parent.mkdir(exist_ok=True)
  with path.open('a') as file:
    file.write(json.dumps(line) + '\n')
