"""What the benchmark scripts do with results; no measurements here."""

from benchmarks import configs


def result(seed, rounds, accuracy):
  return {'config': 'mnist_iid', 'fields': [], 'seed': seed, 'rounds': 100,
          'rounds_to_target': rounds, 'final_accuracy': accuracy}


def test_the_readme_shows_the_committed_results():
  assert configs.report() == (configs.ROOT / 'README.md').read_text()


def test_a_run_that_missed_its_target_says_so():
  text = configs.table([result(0, 46.04, 0.9777), result(1, None, 0.961)])
  (line,) = text.splitlines()[2:]
  assert '46.0, not reached' in line and '97.77%, 96.10% after 100' in line
