"""Compressors on MNIST and CIFAR-10, those that matter most first."""

from benchmarks.communication.tasks import Entry, Task

_USUAL = (0.05, 0.1, 0.2)
# Restrictions train less, and usually want more: docs/restrictions.md.
_LARGER = (0.1, 0.3, 1.0)
# Of the server's steps of one size, with signs.
_STEPS = (0.0003, 0.001, 0.003)


def _entry(name: str, rates=_USUAL, **fields) -> Entry:
  return Entry(name, fields, tuple({'client_lr': rate} for rate in rates))


_KONECNY = 'rotate | subsample(0.25) | quantize(2)'
_TOP = 'error_feedback(top_k(0.01))'

ENTRIES = (
    _entry('FedAvg'),
    _entry('rotate, subsample, quantize(2)', uplink=_KONECNY),
    _entry('top_k(0.01), error feedback', uplink=_TOP),
    _entry('drive', uplink='drive'),
    _entry('drive, down quantize(8)', uplink='drive', downlink='quantize(8)'),
    _entry('low_rank(4)', _LARGER, restrict='low_rank(4)'),
    _entry('rotate, quantize(2)', uplink='rotate | quantize(2)'),
    _entry('qsgd(15)', uplink='qsgd(15)'),
    _entry('top_k(0.01), error feedback, down eden(4)', uplink=_TOP,
           downlink='eden(4)'),
    _entry('rotate, quantize(1)', uplink='rotate | quantize(1)'),
    _entry('ef21(top_k(0.01))', uplink='ef21(top_k(0.01))'),
    _entry('terngrad', uplink='terngrad'),
    _entry('rotate, quantize(4)', uplink='rotate | quantize(4)'),
    _entry('eden(2)', uplink='eden(2)'),
    Entry('sign_sgd, majority vote',
          {'uplink': 'sign_sgd', 'reduce': 'majority_vote'},
          tuple({'client_lr': 0.1, 'server_lr': step} for step in _STEPS)),
    _entry('random_k(0.05)', uplink='random_k(0.05)'),
    _entry('random_k(0.05), error feedback',
           uplink='error_feedback(random_k(0.05, unbiased=False))'),
    _entry('subsample(0.1)', uplink='subsample(0.1)'),
    _entry('random_mask(0.1)', _LARGER, restrict='random_mask(0.1)'),
    _entry('federated_dropout(0.75)', restrict='federated_dropout(0.75)'),
    _entry('cast', uplink='cast'),
    _entry('rotate, quantize(8)', uplink='rotate | quantize(8)'),
    _entry('FedPAQ: qsgd(15), E = 5', uplink='qsgd(15)', local_epochs=5),
    _entry('FedAvg, E = 5', local_epochs=5),
)

MNIST = Task(
    'mnist',
    {'partition': 'shards(2)', 'model': 'mnist_2nn', 'local_epochs': 1,
     'batch_size': 10, 'client_fraction': 0.1},
    ENTRIES, targets=(0.95, 0.97), rounds=400, every=2, seeds=(0, 1, 2),
    tuning={'dataset': 'benchmarks.communication.validation.mnist'})
