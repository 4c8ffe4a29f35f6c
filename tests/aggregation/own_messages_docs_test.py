"""The blocks of docs/own_messages.md run, and do what the page claims."""

from tests.algorithms import tutorial


def test_the_blocks_run(capsys):
  names = {}
  for block in tutorial.blocks('own_messages.md'):
    exec(compile(block, 'own_messages.md', 'exec'), names)
  noisy, attacked, defended, midrange = map(
      float, capsys.readouterr().out.split())
  # Ten digits; chance is 0.1.
  assert min(noisy, defended, midrange) > 0.7
  assert attacked < defended - 0.1, (attacked, defended)
