"""Callbacks that log all records: to a terminal, to TensorBoard, to services.

The services' packages are imported when their callback is made.
"""

import dataclasses
import importlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fedjax_sim.simulation.records import Record


def printing(*names: str, show: Callable[[str], Any] = print) -> 'Printing':
  """Prints a line for each record that has one of these metrics.

  Args:
    *names: such as 'test/accuracy'; none stands for all metrics of evaluation
      sets.
    show: prints a line.
  """
  return Printing(names, show)


def tensorboard(folder: str | Path) -> 'TensorBoard':
  """Writes records as TensorBoard events.

  Raises:
    ValueError: tensorboardX is not installed.
  """
  writer = _imported('tensorboardX', "'fedjax_sim[tensorboard]'").SummaryWriter
  return TensorBoard(writer(str(folder)))


def wandb(**options: Any) -> 'Logger':
  """Logs records to Weights & Biases, in a run of its own.

  Args:
    **options: of `wandb.init`, such as project='federated'.

  Raises:
    ValueError: wandb is not installed.
  """
  run = _imported('wandb', 'wandb').init(**options)
  return Logger(lambda record: run.log(numbers(record), step=record['round']),
                run.finish)


def mlflow(**options: Any) -> 'Logger':
  """Logs records to MLflow, in a run of its own.

  Args:
    **options: of `mlflow.start_run`, such as run_name='ditto'.

  Raises:
    ValueError: mlflow is not installed.
  """
  library = _imported('mlflow', 'mlflow')
  own = library.start_run(**options).info.run_id
  return Logger(lambda record: library.log_metrics(
      numbers(record), step=record['round'], run_id=own), library.end_run)


@dataclasses.dataclass(frozen=True)
class Printing:
  """See `printing`."""

  names: Sequence[str]
  show: Callable[[str], Any]

  def log(self, records: Sequence[Record]) -> None:
    for record in records:
      found = {
          name: value for name, value in numbers(record).items()
          if name in self.names or not self.names and '/' in name
          and not name.startswith('train/')}
      if found:
        self.show(f'round {record["round"]}  ' + '  '.join(
            f'{name} {value:.4f}' for name, value in found.items()))


@dataclasses.dataclass(frozen=True)
class TensorBoard:
  """See `tensorboard`."""

  writer: Any

  def log(self, records: Sequence[Record]) -> None:
    for record in records:
      for name, value in numbers(record).items():
        self.writer.add_scalar(name, value, record['round'])
    self.writer.flush()

  def close(self) -> None:
    self.writer.close()


@dataclasses.dataclass(frozen=True)
class Logger:
  """Hands records to another library, one by one."""

  write: Callable[[Record], Any]
  end: Callable[[], Any]

  def log(self, records: Sequence[Record]) -> None:
    for record in records:
      self.write(record)

  def close(self) -> None:
    self.end()


def numbers(record: Record) -> Mapping[str, float]:
  """What of a record is a number, without that of its round."""
  return {name: value for name, value in record.items()
          if name != 'round' and isinstance(value, int | float)}


def _imported(name: str, install: str) -> Any:
  """A module that not everybody has.

  Raises:
    ValueError: it is not installed.
  """
  try:
    return importlib.import_module(name)
  except ImportError as error:
    raise ValueError(
        f'{name} is not installed: pip install {install}.') from error
