"""The paper's tables and figures.

  python -m benchmarks.paper list                 the cells, and what is known
  python -m benchmarks.paper run --table 2 --model mnist_cnn \\
      --partition noniid --cell E5B10 [--seeds 3] [--budget-minutes 30]
  python -m benchmarks.paper run --all            cheapest first
  python -m benchmarks.paper plan                 what that does, and how long
  python -m benchmarks.paper report               docs/paper.md and figures
"""

import argparse
from collections.abc import Sequence

from benchmarks.paper import cells, plan, results, store
from benchmarks.paper.cells import Cell
from fedjax_sim.experiment import reporting


def main(arguments: Sequence[str] | None = None) -> None:
  """Exits with status 2 at bad arguments, with 1 if a cell has failed."""
  parser = _parser()
  options = parser.parse_args(arguments)
  if options.command == 'report':
    from benchmarks.paper import report  # Here: it imports JAX.
    print(report.write())
    return
  try:
    chosen = cells.select(
        options.table, options.model, options.partition, options.cell)
  except ValueError as error:
    parser.error(str(error))
  if options.pixels == 'centered':
    chosen = cells.centered(chosen)
  if options.command == 'list':
    print(listing(chosen, store.read(store.STORE)))
    return
  if options.command == 'plan':
    print(commands(chosen, store.read(store.STORE), _device(), options.seeds))
    return
  filters = (options.table, options.model, options.partition, options.cell)
  if options.all == any(value is not None for value in filters):
    parser.error('run takes either --all or some of --table, --model, '
                 '--partition and --cell.')
  from benchmarks.paper import runner
  try:
    all_well = runner.run(
        plan.order(chosen, store.read(store.STORE), _device(), options.seeds),
        seeds=options.seeds, budget_minutes=options.budget_minutes,
        rates=options.rates, data_dir=options.data_dir,
        search_seeds=options.search_seeds)
  except ValueError as error:
    parser.error(str(error))
  if not all_well:
    parser.exit(1)


def listing(chosen: Sequence[Cell], records: dict[str, store.Record]) -> str:
  """A line for each cell: key, tables, published, state, ours by target."""
  lines = [('cell', 'tables', 'published', 'state', 'ours')]
  for cell in chosen:
    record = records.get(cell.key)
    found = [results.of(cell, record, target) for target in cell.targets]
    lines.append((
        cell.key, ' '.join(map(str, cell.published)) or '-',
        ' '.join(_published(f) for f in cell.published.values()) or '-',
        found[0].state,
        '; '.join(map(results.text, found)) if record else '-'))
  return reporting.table(lines)


def commands(
    chosen: Sequence[Cell], records: dict[str, store.Record], device: str,
    seeds: int,
) -> str:
  """A line for each cell that is not finished: minutes, and how to run it."""
  lines = [('minutes left', 'arguments of run')]
  for cell in plan.order(chosen, records, device, seeds):
    record = records.get(cell.key, {})
    if record.get('state') == 'done' and len(record['seeds']) >= seeds:
      continue
    left = plan.minutes_left(cell, records, device, seeds)
    lines.append((f'{left:.0f}', f'--model {cell.model} --partition '
                  f'{cell.partition} --cell {cell.label.replace("/", "")}'
                  f' --pixels {cell.pixels}'))
  return reporting.table(lines)


def _device() -> str:
  """JAX's name for what it computes on."""
  import jax  # Here: `list` needs none.
  return jax.devices()[0].device_kind


def _published(figures: Sequence[int | None]) -> str:
  return '/'.join('never' if f is None else str(f) for f in figures)


def _parser() -> argparse.ArgumentParser:
  parser = argparse.ArgumentParser(
      prog='python -m benchmarks.paper', description=__doc__,
      formatter_class=argparse.RawDescriptionHelpFormatter)
  commands = parser.add_subparsers(dest='command', required=True)
  commands.add_parser('report', help='write docs/paper.md and its figures')
  for name, text in (('list', 'show the cells'),
                     ('plan', 'show what is to be run, cheapest first'),
                     ('run', 'compute cells')):
    command = commands.add_parser(name, help=text)
    command.add_argument('--table', type=int, help='1 to 4')
    command.add_argument('--model', help='such as mnist_2nn')
    command.add_argument('--partition', help='such as noniid')
    command.add_argument('--cell', help='such as E5B10, E1Binf, C0.2E1B10')
    command.add_argument(
        '--pixels', default='zero_to_one', choices=('zero_to_one', 'centered'),
        help='range of pixels: 0 to 1, or -0.5 to 0.5')
    command.add_argument('--seeds', type=int, default=3, help='how many')
  command.add_argument('--all', action='store_true', help='every cell')
  command.add_argument('--budget-minutes', type=float,
                       help='stop after so long; go on with the same command')
  command.add_argument('--rates', type=float, nargs='+',
                       help='learning rates, instead of the grid')
  command.add_argument('--search-seeds', type=int,
                       help='of these, how many the best rate is searched with')
  command.add_argument('--data-dir', default='',
                       help='a folder with the original files of a data set')
  return parser


if __name__ == '__main__':
  main()
