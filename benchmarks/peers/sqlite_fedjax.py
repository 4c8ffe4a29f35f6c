"""Files in FedJAX's SQLite layout, between FedJAX 0.0.17 itself and us.

Run in FedJAX's environment by `benchmarks.sqlite`:

  write FILE   writes the clients of `clients()` with FedJAX's builder
  read FILE    reads a file with FedJAX, and prints whether it holds them
"""

import sys

import numpy as np


def clients(count: int = 7):
  """(id, arrays) of several dtypes and shapes, with byte strings among them."""
  rng = np.random.default_rng(0)
  for i in range(count):
    n = int(rng.integers(1, 20))
    yield b'client %d' % i, {
        'pixels': rng.random((n, 28, 28), np.float32),
        'label': rng.integers(0, 62, n, np.int32),
        'bytes': rng.integers(0, 256, (n, 3), np.uint8),
        'mask': rng.random(n) < 0.5,
        'text': np.array([b'line %d' % j for j in range(n)], object)}


def same(got, want) -> bool:
  """Equal array by array, dtypes included."""
  return got.keys() == want.keys() and all(
      got[k].dtype == want[k].dtype and np.array_equal(got[k], want[k])
      for k in want)


def main() -> None:
  import fedjax
  action, path = sys.argv[1:]
  if action == 'write':
    with fedjax.SQLiteFederatedDataBuilder(path) as builder:
      builder.add_many(clients())
    return
  federation = fedjax.SQLiteFederatedData.new(path)
  got = {client: dataset.all_examples()
         for client, dataset in federation.clients()}
  want = dict(clients())
  print(got.keys() == want.keys()
        and all(same(got[name], want[name]) for name in want))


if __name__ == '__main__':
  main()
