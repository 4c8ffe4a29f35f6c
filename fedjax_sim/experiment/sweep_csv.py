"""sweep.csv: all records of a sweep's runs in one table, for other tools."""

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fedjax_sim.core import files
from fedjax_sim.experiment import loop, metrics
from fedjax_sim.experiment.sweep_group import folder_of

FILE = 'sweep.csv'


def write(folder: Path, settings: Mapping[str, Mapping[str, Any]]) -> None:
  """Writes a line for each run and round, its own fields first.

  The columns are the swept fields, then the fields of the records. A value that
  a record does not have, or that was not finite, is empty. The names of a
  round's clients are left out.

  Args:
    folder: of the sweep.
    settings: a run's label -> swept field -> its value in this run.
  """
  rows = [{**record, **own} for label, own in settings.items()
          for record in metrics.read(
              folder_of(folder, label) / loop.METRICS_FILE)]
  swept = next(iter(settings.values()))
  names = dict.fromkeys([*swept, *(name for row in rows for name in row)])
  names.pop('cohort', None)
  text = io.StringIO()
  writer = csv.DictWriter(
      text, list(names), extrasaction='ignore', lineterminator='\n')
  writer.writeheader()
  writer.writerows(rows)
  with files.replacing(folder / FILE) as file:
    file.write(text.getvalue().encode())
