"""Whether a run's folder is as it was written."""

from pathlib import Path

from fedjax_sim.core import sealed_json
from fedjax_sim.experiment import loop, metrics, results, workdir
from fedjax_sim.experiment.checkpoints import Checkpoints


def verify(folder: Path | str) -> None:
  """Verifies all checksums in the folder of a run or a sweep.

  The states of clients that are stored on disk are verified when they are read.
  A run that has not ended has no results yet; then there are none to verify.

  Raises:
    ValueError: something was changed, or is missing; the message names the
      file, and of a checkpoint the newest good one before it.
  """
  folder = Path(folder)
  if workdir.read_record(folder) is None:
    raise ValueError(f'{str(folder)!r} holds no run: it has no config.json.')
  places = [folder, *(path for path in sorted(folder.iterdir())
                      if path.is_dir())]
  for file in (file for place in places for file in place.glob('*.json')):
    sealed_json.read(file)
  for place in places:
    file = place / loop.METRICS_FILE
    records = metrics.read(file)
    last = _verify_checkpoints(place / 'checkpoints')
    _verify_results(place, last, metrics.missing_rounds(records, last))


def _verify_checkpoints(folder: Path) -> int:
  """Those of a run, or of a sweep's groups.

  Returns:
    The round of the last record when a run's newest one was written, else 0.
  """
  last = 0
  for place in sorted({
      path.parent for path in folder.rglob('[0-9]*')
      if path.name.isdecimal() and path.parent.name != 'state'}):
    with Checkpoints(place, keep=None) as saved:
      saved.verify()
      latest = saved.latest()
      if place == folder and latest is not None:
        last = saved.notes(latest).get('recorded', {}).get('0', latest)
  return last


def _verify_results(folder: Path, last: int, missing: list[int]) -> None:
  """Those that are noted; and that no records are missing but as they say."""
  noted = workdir.read_json(folder / workdir.RESULTS_FILE)
  why = None if noted is None else results.why_not(folder, noted['round'])
  if why is not None:
    raise ValueError(why)
  if missing and (noted is None or noted['round'] < last):
    raise ValueError(
        f'{folder / loop.METRICS_FILE} has no record of '
        f'{metrics.ranges(missing)}, after which a checkpoint was written.')
