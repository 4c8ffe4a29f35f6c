"""Rules of rounds, on one population of devices whose speeds differ."""

from benchmarks.communication.tasks import Entry, Task

_RATES = (0.2, 0.4, 0.8, 1.6, 3.2)

# So many clients train at once, whatever the rule.
CONCURRENCY = 100


def _entry(name: str, **fields) -> Entry:
  return Entry(name, {'clients_per_round': CONCURRENCY, **fields},
               tuple({'client_lr': rate} for rate in _RATES))


def _asynchronous(name: str, reports: int, max_lag: int, **fields) -> Entry:
  """A step of the server with so many reports.

  Reports that are older than 2,000 others, of which there are few, are
  discarded.
  """
  return _entry(
      name, clients_per_round=reports, **fields, reporting=(
          f'asynchronous({CONCURRENCY}, max_lag={max_lag})'))._replace(
              steps=CONCURRENCY // reports)


ENTRIES = (
    _entry('synchronous'),
    # 77 of 100.
    _entry('over-selected', clients_per_round=77,
           reporting='window(over_selection=1.298)'),
    # By then 79 of 100 have reported, on average.
    _entry('deadline', reporting='window(20.0)'),
    *(_asynchronous(f'FedBuff, K = {k}', k, max_lag=2000 // k,
                    algorithm='fedbuff') for k in (10, 50)),
    _asynchronous('FedAsync', 1, max_lag=2000, algorithm='fedasync'),
)

DEVICES = Task(
    'devices',
    {'partition': 'shards(2)', 'num_clients': 1000, 'local_epochs': 1,
     'batch_size': 10, 'model': 'logistic_regression',
     'systems': 'lognormal(1.0, speed_ratio=100.0)'},
    ENTRIES, targets=(0.88, 0.9), rounds=300, every=1, seeds=(0, 1, 2),
    tuning={'dataset': 'benchmarks.communication.validation.mnist'})
