"""Compressors on MNIST and CIFAR-10, those that matter most first."""

from benchmarks.communication.tasks import Entry, Task

_USUAL = (0.1, 0.2, 0.4)
# Restrictions train less, and usually want more: docs/restrictions.md.
_LARGER = (0.3, 1.0, 3.0)
# Of the server's steps of one size, with signs.
_STEPS = (0.0003, 0.001, 0.003)


def _entry(name: str, family: str, rates=_USUAL, **fields) -> Entry:
  return Entry(
      name, fields, tuple({'client_lr': rate} for rate in rates), family)


_LEVELS, _SIGNS, _SOME, _LESS, _DOWN = (
    'levels', 'signs and rotations', 'some of the values', 'training less',
    'both ways')
_KONECNY = 'rotate | subsample(0.25) | quantize(2)'
_TOP = 'error_feedback(top_k(0.01))'

ENTRIES = (
    _entry('FedAvg', ''),
    _entry('rotate, subsample, quantize(2)', _SOME, uplink=_KONECNY),
    _entry('top_k(0.01), error feedback', _SOME, uplink=_TOP),
    _entry('rotate, subsample, quantize(2), down eden(4)', _DOWN,
           uplink=_KONECNY, downlink='eden(4)'),
    _entry('drive', _SIGNS, uplink='drive'),
    # Of Konečný et al.'s figures, for two orders of magnitude.
    _entry('rotate, subsample(0.0625), quantize(2)', _SOME,
           uplink='rotate | subsample(0.0625) | quantize(2)'),
    _entry('low_rank(4)', _LESS, _LARGER, restrict='low_rank(4)'),
    _entry('qsgd(15)', _LEVELS, uplink='qsgd(15)'),
    _entry('rotate, quantize(1)', _LEVELS, uplink='rotate | quantize(1)'),
    _entry('terngrad', _SIGNS, uplink='terngrad'),
    _entry('random_k(0.05)', _SOME, uplink='random_k(0.05)'),
    _entry('random_mask(0.1)', _LESS, _LARGER, restrict='random_mask(0.1)'),
    Entry('sign_sgd, majority vote',
          {'uplink': 'sign_sgd', 'reduce': 'majority_vote'},
          tuple({'client_lr': 0.1, 'server_lr': step} for step in _STEPS),
          _SIGNS),
    _entry('rotate, quantize(2)', _LEVELS, uplink='rotate | quantize(2)'),
    _entry('federated_dropout(0.75)', _LESS,
           restrict='federated_dropout(0.75)'),
    _entry('rotate, quantize(4)', _LEVELS, uplink='rotate | quantize(4)'),
    _entry('eden(2)', _SIGNS, uplink='eden(2)'),
    _entry('random_k(0.05), error feedback', _SOME,
           uplink='error_feedback(random_k(0.05, unbiased=False))'),
    _entry('subsample(0.1)', _SOME, uplink='subsample(0.1)'),
    _entry('ef21(top_k(0.01))', _SOME, uplink='ef21(top_k(0.01))'),
    _entry('drive, down quantize(8)', _DOWN, uplink='drive',
           downlink='quantize(8)'),
    _entry('cast', _LEVELS, uplink='cast'),
    _entry('rotate, quantize(8)', _LEVELS, uplink='rotate | quantize(8)'),
    _entry('FedPAQ: qsgd(15), E = 5', _LEVELS, uplink='qsgd(15)',
           local_epochs=5),
    _entry('FedAvg, E = 5', _LEVELS, local_epochs=5),
)

MNIST = Task(
    'mnist',
    {'partition': 'shards(2)', 'model': 'mnist_2nn', 'local_epochs': 1,
     'batch_size': 10, 'client_fraction': 0.1},
    ENTRIES, targets=(0.95, 0.97), rounds=400, every=2, seeds=(0, 1, 2),
    tuning={'dataset': 'benchmarks.communication.validation.mnist'})

# One rate, one seed, short local work and few rounds.
CIFAR10 = Task(
    'cifar10',
    {'dataset': 'cifar10', 'model': 'cifar_cnn', 'partition': 'iid',
     'local_steps': 10, 'batch_size': 10, 'client_fraction': 0.1,
     'test_examples': 1000},
    [entry._replace(settings=({'client_lr': 0.05},)) for entry in ENTRIES
     if entry.name in ('FedAvg', 'rotate, subsample, quantize(2)', 'drive',
                       'top_k(0.01), error feedback',
                       'rotate, subsample, quantize(2), down eden(4)')],
    targets=(0.3, 0.4), rounds=40, every=2, seeds=(0,))
