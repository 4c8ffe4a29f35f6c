"""Whether a run's folder is as it was written."""

from collections.abc import Iterator
from pathlib import Path

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
  latest = {}
  for checkpoints in _folders_of_checkpoints(folder):
    with Checkpoints(checkpoints, keep=1) as saved:
      saved.verify()
      latest[checkpoints] = saved.latest()
      recorded = saved.notes(saved.latest()).get('recorded', {})
  for file in [folder / loop.METRICS_FILE,
               *folder.glob(f'*/{loop.METRICS_FILE}')]:
    if file.exists():
      metrics.read(file)
    own = file.parent / 'checkpoints'
    if own in latest:
      _verify_run(file, latest[own], recorded.get('0', latest[own]))
  _verify_results(folder)


def _verify_run(file: Path, latest: int, last: int) -> None:
  """That no record is missing, unless the results say so."""
  records = metrics.read(file) if file.exists() else []
  missing = metrics.missing_rounds(records, last)
  noted = workdir.read_json(file.parent / workdir.RESULTS_FILE)
  known = noted is not None and noted['round'] == latest
  if missing and not (known and noted['records'] == len(records)):
    raise ValueError(
        f'{file} has no record of {metrics.ranges(missing)}, which the '
        f'checkpoint of round {latest} was written after.')


def _verify_results(folder: Path) -> None:
  """Those that are noted, in the folder and in those of a sweep's runs."""
  for file in [folder / workdir.RESULTS_FILE,
               *folder.glob(f'*/{workdir.RESULTS_FILE}')]:
    noted = workdir.read_json(file)
    if noted is not None:
      why = results.why_not(file.parent, noted['round'])
      if why is not None:
        raise ValueError(why)


def _folders_of_checkpoints(folder: Path) -> Iterator[Path]:
  """Those of a run, or of a sweep's groups and runs."""
  found = {path.parent for path in (folder / 'checkpoints').rglob('[0-9]*')
           if path.is_dir() and path.name.isdecimal()
           and (path / 'manifest.json').parent.parent.name}
  yield from sorted(found)
