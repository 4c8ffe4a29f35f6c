"""What a round becomes on an H100 and on a TPU, compiled without having one.

  python -m benchmarks.compiled --setup      make environments (Python 3.12)
  python -m benchmarks.compiled --target gpu --model mnist_2nn --clients 10
      [--devices 4] [--unequal] [--algorithm scaffold] [--lanes 10]
      [--checkout DIR] [--dump DIR]                     one case, printed
  python -m benchmarks.compiled --all [--minutes 60]    the table's cases
      [--checkout DIR --revision NAME] [--dump DIR]
  python -m benchmarks.compiled --report                into docs/scaling.md

XLA compiles for a device that is only described. That tells no time, but all
that time is made of: kernels a local step, what is one CUDA graph, loops that
the host drives, bytes, memory, collectives. `--checkout` compiles another
revision's package, `--dump` keeps the programs and XLA's lists of launches.
With `--all` a line for each case goes to benchmarks/results/compiled.jsonl;
those that it has of the revision are left out.
"""

import argparse
import datetime
import tempfile
import time
from pathlib import Path

from benchmarks import contenders, speed
from benchmarks.compiled import compilation, matrix, report
from benchmarks.compiled.targets import TARGETS
from benchmarks.contenders import ROOT

REQUIREMENTS = Path(__file__).parent / 'requirements'


def compile_all(
    checkout: Path, revision: str, dump: Path, minutes: float
) -> None:
  """Compiles the table's cases, and writes a line for each."""
  end = time.monotonic() + 60 * minutes
  done = [report.case_of(line) for line in report.read()
          if line['revision'] == revision]
  for case in matrix.cases():
    if case in done:
      continue
    if time.monotonic() > end:
      return
    try:
      facts = compilation.compiled(case, checkout, dump / case.name)
    except compilation.CompilationError as error:
      facts = {'error': str(error)}
    report.append({
        'case': case._asdict(), 'revision': revision,
        'date': datetime.date.today().isoformat(), **facts})
    print(case.name, facts.get('error', f'{facts.get("kernels")} kernels'),
          flush=True)


def main() -> None:
  arguments = _parse()
  if arguments.setup:
    for target in TARGETS.values():
      contenders.setup(target.environment, REQUIREMENTS, least=(3, 12))
    return
  if arguments.report:
    report.PAGE.write_text(report.page())
    return
  checkout = arguments.checkout.absolute()
  with tempfile.TemporaryDirectory() as folder:
    dump = (arguments.dump or Path(folder) / 'round').absolute()
    if arguments.all:
      compile_all(checkout, arguments.revision or speed.commit(), dump,
                  arguments.minutes)
      return
    case = matrix.Case(**{
        name: getattr(arguments, name) for name in matrix.Case._fields})
    for name, value in compilation.compiled(case, checkout, dump).items():
      print(f'{name}: {value}')


def _parse() -> argparse.Namespace:
  parser = argparse.ArgumentParser(
      description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
  for name in ('setup', 'all', 'report', 'unequal'):
    parser.add_argument(f'--{name}', action='store_true')
  parser.add_argument('--target', choices=TARGETS, default='gpu')
  parser.add_argument('--model', choices=matrix.MODELS, default='mnist_2nn')
  parser.add_argument('--algorithm', default='fedavg')
  parser.add_argument('--clients', type=int, default=10)
  parser.add_argument('--devices', type=int, default=1)
  parser.add_argument(
      '--lanes', type=lambda x: x if x == 'auto' else int(x), default='auto')
  parser.add_argument('--checkout', type=Path, default=ROOT)
  parser.add_argument('--revision', help='its name in results')
  parser.add_argument('--minutes', type=float, default=600)
  parser.add_argument('--dump', type=Path)
  return parser.parse_args()


if __name__ == '__main__':
  main()
