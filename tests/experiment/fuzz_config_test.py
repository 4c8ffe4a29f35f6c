"""Wrong configs: every one is told by its field, in one line, before any work.

What a field may hold is written down here a second time, by hand, so that a
value which should not build and does is found.
"""

import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from configs import digits_quickstart
from fedjax_sim.experiment import build_run
from fedjax_sim.experiment.check_config import validate

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
LARGEST = 2 ** 31 - 1
EXAMPLES, TEST_EXAMPLES, CLIENTS = 1437, 360, 20


def unwrapped(x):
  return x.item() if np.ndim(x) == 0 and hasattr(x, 'item') else x


def is_number(x):
  return isinstance(x, int | float) and not isinstance(x, bool)


def is_whole(x):
  return isinstance(x, int) and not isinstance(x, bool)


def whole(low, high=LARGEST):
  return lambda x: is_whole(x) and low <= x <= high


def between(low, high):
  return lambda x: is_number(x) and low <= x <= high


def positive(x):
  """A positive number that float32 can hold."""
  return is_number(x) and 1.5e-45 <= x <= 3.4e38


def one_of(*valid):
  return lambda x: isinstance(x, str) and x in valid


def boolean(x):
  return isinstance(x, bool)


def auto_or(check):
  return lambda x: isinstance(x, str) and x == 'auto' or check(x)


# Field -> whether digits_quickstart runs with a value.
VALID = {
    'data_dir': one_of(''),  # digits has no files.
    'num_clients': whole(1, EXAMPLES // 2),  # One to train and one to test on.
    'client_test_fraction': lambda x: is_number(x) and 0 <= x < 1,
    'weighting': one_of('examples', 'uniform'),
    'client_fraction': between(0, 1),
    'clients_per_round': whole(0, CLIENTS),
    'local_epochs': lambda x: positive(x) and 6 * x <= LARGEST,
    'local_steps': whole(0),
    'batch_size': whole(1),
    'full_batch': boolean,
    'micro_batch_size': whole(1),
    'client_lr': positive,
    'client_lr_decay': positive,
    'server_lr': positive,
    'server_lr_decay': positive,
    'rounds': whole(1),
    'seed': whole(0, 2 ** 64 - 1),
    'eval_every': whole(1),
    'eval_batch_size': whole(1),
    'test_examples': whole(0, TEST_EXAMPLES),
    'targets': lambda x: isinstance(x, list | tuple) and all(
        between(0, 1)(y) for y in x),
    'on_divergence': one_of('stop', 'continue'),
    'devices': auto_or(whole(1, 8)),
    'lanes': auto_or(whole(1)),
    'examples': one_of('auto', 'owned'),
    'client_state': one_of('auto', 'device', 'stored'),
    'precision': one_of('auto', 'highest', 'tensorfloat32', 'bfloat16'),
    'rounds_per_dispatch': whole(0),
    'checkpoint_seconds': between(0, 3.4e38),
    'keep_checkpoints': whole(1),
    'tensorboard': boolean,
}

HOSTILE = [
    None, True, False, -1, 0, 1, 2, 3, 1.0, 1.5, -0.5, 0.3, 1e-60, 1e300,
    10 ** 12, 10 ** 30, 10 ** 400, 2 ** 31 - 1, 2 ** 31, 2 ** 40, 2 ** 63,
    math.nan, math.inf, -math.inf, '', ' ', '3', '0.1', 'auto', 'abc', 'iid',
    'a\0b', '\ud800', '日本', "it's", 'x' * 5000, '../..', '/nope', [], [1],
    [0.5, 2], [True], (1, 2), ['a'], {}, {'a': 1}, {'x': {'y': 1}}, {1, 2},
    b'a', 1j, object(), len, int, np.float32(0.5), np.int64(3), np.bool(True),
    np.array(3), np.array([1, 2]), np.array(['a']),
]

SPECS = {  # Field -> texts that build.
    'dataset': ['digits', 'digits()', ' digits '],
    'partition': ['iid', 'iid(seed=3)', 'dirichlet(0.5)',
                  'dirichlet(1, min_size=2)', 'quantity(sigma=0.5)'],
    'model': ['mnist_2nn', 'logistic_regression',
              'mnist_2nn(preprocess=centered)'],
    'loss': ['', 'cross_entropy'],
    'metrics': [''],
    'algorithm': ['fedavg', 'fedprox(mu=0.1)', 'scaffold', 'ditto(lam=0.1)',
                  'fedexp', 'q_fedavg(q=1.0)'],
    'sampler': ['uniform', 'uniform()'],
    'client_optimizer': ['sgd', 'adam(b1=0.8)',
                         'clip_by_global_norm(1.0) | sgd(momentum=0.9)'],
    'server_optimizer': ['sgd', 'fedadam(tau=1e-3)', 'fedavgm(momentum=0.9)'],
    'uplink': ['', 'clip(1.0)', 'clip(1.0) | adaptive_clip',
               'clip(1.0) | rotate | quantize(bits=2)', 'drive'],
    'downlink': ['', 'clip(1.0)', 'cast'],
    'reduce': ['', 'median', 'majority_vote', 'fixed_mean(3)', 'weighted_mean'],
    'aggregate': ['', 'masked_mean', 'private_mean(0.5, noise=1.0)'],
    'restrict': [''],
    'systems': ['', 'lognormal', 'phones(wifi=0.5)',
                'identical(available=sporadic(0.9), failures=failures(0.1))'],
    'reporting': [''],
}

ODD_SPECS = [
    'nope', 'iidd', 'fedavgg(3)', '3', '-1', '"x"', 'None', 'True', '()', '[]',
    '{', '(', 'f(', 'f(]', 'f(x=)', 'f(**{})', 'f(*[1])', 'f(x for x in y)',
    'lambda: 1', 'f()()', 'f().g', 'f[0]', 'f|', '|f', 'f | | g', 'a and b',
    'x = 3', 'import os', 'f(1); g(2)', 'f(\n', '\n', '#', 'f(nan)', 'f(-inf)',
    'f(1e999)', 'f(1j)', 'f(b"x")', 'f(...)', 'f("' + 'x' * 3000 + '")',
    '(' * 300, 'f(' * 30 + ')' * 30, ' | '.join(['f'] * 200),
    'f(' + '9' * 5000 + ')', 'os', 'math.pi', 'math.nope', 'no.such.thing',
    'time.sleep', 'builtins.int', 'builtins.exit', 'numpy.zeros(3)',
    'flax.linen.Dense', 'optax.sgd(0.1, nope=3)', '..', 'a..b', '.a', 'a.',
    'é', 'a\0b', '\ud800',
]

# (field, call with one argument left open, whether a literal fits it)
ARGUMENTS = [
    ('partition', 'dirichlet({})', between(0.1, 1e308)),
    ('partition', 'dirichlet(0.5, min_size={})', whole(0, EXAMPLES // CLIENTS)),
    ('partition', 'iid(seed={})', whole(0, 2 ** 64 - 1)),
    ('uplink', 'clip({})', positive),
    ('uplink', 'adaptive_clip(quantile={})', between(0, 1)),
    ('uplink', 'quantize({})', whole(1, 16)),
    ('uplink', 'qsgd({})', whole(1, 32767)),
    ('uplink', 'subsample({})', lambda x: positive(x) and x <= 1),
    ('reduce', 'fixed_mean({})', positive),
    ('aggregate', 'masked_mean({})', lambda x: positive(x) and x <= 2e8),
    ('aggregate', 'private_mean(0.5, noise={})', between(0, 3.4e38)),
    ('systems', 'lognormal({})', positive),
    ('systems', 'phones(wifi={})', between(0, 1)),
    ('algorithm', 'ditto(lam={})', between(0, 3.4e38)),
    ('algorithm', 'ifca(clusters={})', whole(1, 1000)),
    ('algorithm', 'scaffold(option={})', whole(1, 2)),
    ('server_optimizer', 'fedadam(tau={})', positive),
    ('server_optimizer', 'fedadam(beta2={})', between(0, 1)),
]
LITERALS = [None, True, -1, 0, 1, 2, 0.5, 1e-60, 1e300, 10 ** 12, 10 ** 30,
            2 ** 31, 'abc', '', [1], (1, 2), {'a': 1}]
# Bounds that meet in these, where what is right is a matter of taste.
UNSURE = {('partition', 1e-60), ('server_optimizer', 1),
          ('partition', 2), ('algorithm', 2), ('uplink', 0.5)}


def config_of(changes):
  """As a config file makes it."""
  config = digits_quickstart.get_config()
  config.devices, config.lanes = 1, 5
  for name, value in changes.items():
    setattr(config, name, value)
  return config.lock()


def error_of(changes):
  """What is said of a config; None if it is built."""
  try:
    config = config_of(changes)
    validate(config)
    build_run.build(config, build_run.Shape(
        1 if config.devices == 'auto' else config.devices,
        5 if config.lanes == 'auto' else config.lanes))
  except ValueError as error:
    return str(error)
  return None


def check(changes, valid):
  """Builds if that is right, and else is told by its field in one line."""
  error = error_of(changes)
  assert (error is None) == valid, (changes, error)
  if error is not None:
    assert any(f'config.{name}' in error for name in changes), error
    assert 'Traceback' not in error and '\n' not in error, error
    assert len(error) < 2000


def random_change(rng):
  """(field, value, whether it is valid)."""
  kind = rng.integers(4)
  if kind < 2:
    field = str(rng.choice([*VALID]))
    value = HOSTILE[rng.integers(len(HOSTILE))]
    return field, value, _fits(VALID[field], value)
  if kind == 2:
    field = str(rng.choice([*SPECS]))
    every = [*SPECS[field], *ODD_SPECS, *(
        x for x in HOSTILE if not isinstance(x, str))]
    value = every[rng.integers(len(every))]
    return field, value, isinstance(value, str) and value in SPECS[field]
  field, call, fits = ARGUMENTS[rng.integers(len(ARGUMENTS))]
  value = LITERALS[rng.integers(len(LITERALS))]
  if (field, value if is_number(value) else None) in UNSURE:
    value = 'abc'
  too_large = is_whole(value) and value > LARGEST and 'seed' not in call
  return field, call.format(repr(value)), fits(value) and not too_large


def _fits(fits, value):
  return bool(fits(unwrapped(value)))


@pytest.mark.parametrize('part', range(10))
def test_random_configs_build_or_say_why_not(part):
  rng = np.random.default_rng(part)
  for _ in range(30):
    field, value, valid = random_change(rng)
    check({field: value}, valid)


def test_of_two_wrong_fields_one_is_named():
  rng = np.random.default_rng(77)
  for _ in range(40):
    changes, valid = {}, True
    for _ in range(2):
      field, value, fits = random_change(rng)
      changes[field], valid = value, valid and fits
    if not valid:
      error = error_of(changes)
      assert error is None or any(
          f'config.{name}' in error for name in changes), (changes, error)


def targeted():
  """(field, value, what the message says), a hundred of them."""
  whole_fields = ('num_clients', 'batch_size', 'rounds', 'eval_every',
                  'eval_batch_size', 'keep_checkpoints', 'micro_batch_size')
  for field in whole_fields:
    low = r'>= 1, got 0' if field != 'num_clients' else '>= 1, got 0'
    yield field, 0, f'must be a whole number {low}'
    yield field, 1.5, r'must be a whole number, got 1\.5'
    yield field, True, 'must be a whole number, got True'
    yield field, '3', "must be a whole number, got '3'"
    yield field, 10 ** 30, 'must be a whole number <= 2147483647'
  for field in ('client_lr', 'client_lr_decay', 'server_lr', 'server_lr_decay'):
    yield field, 0, 'must be positive and finite, got 0'
    yield field, -1, 'must be positive and finite, got -1'
    yield field, 'abc', "must be a number, got 'abc'"
    yield field, True, 'must be a number, got True'
    yield field, math.nan, 'must be positive and finite, got nan'
    yield field, 1e-60, 'finite in float32.*got 1e-60'
    yield field, None, 'must be a number, got None'
  for field in ('client_fraction', 'client_test_fraction'):
    yield field, 1.5, r'must lie in \[0, 1\], got 1.5'
    yield field, [0.1], r'must be a number, got \[0.1\]'
  for field in ('full_batch', 'tensorboard'):
    yield field, 1, 'must be True or False, got 1'
    yield field, 'yes', "must be True or False, got 'yes'"
  for field in ('dataset', 'model', 'algorithm', 'uplink', 'reduce'):
    yield field, 3, 'must be text, got 3'
    yield field, None, 'must be text, got None'
    yield field, 'nope', "must be one of .*got 'nope'"
  for field in ('devices', 'lanes'):
    yield field, 0, "must be 'auto',? .*or a whole number >= 1, got 0"
    yield field, 'all', "must be 'auto',? .*or a whole number >= 1, got 'all'"
  yield 'clients_per_round', 21, 'at most num_clients = 20'
  yield 'num_clients', 10 ** 6, 'need 1000000 examples; there are 1437'
  yield 'seed', -1, r'from 0 to 2\*\*64 - 1, got -1'
  yield 'targets', 0.9, 'must be a list of numbers, got 0.9'
  yield 'targets', (1.5,), r'must lie in \[0, 1\], got 1.5'
  yield 'test_examples', 361, 'at most 360'
  yield 'data_dir', '/nope', "must be a folder.*'/nope'"
  yield 'weighting', 'sizes', 'one of examples, uniform'
  yield 'on_divergence', 'stopp', "Did you mean 'stop'"
  yield 'client_optimizer', 'lbfgs', "needs 'value', 'grad'"
  yield 'client_optimizer', 'sgd(momentum=True)', 'momentum must be a number'
  yield 'client_optimizer', 'fedadam', 'must be one of'
  yield 'server_optimizer', 'sgd(0.1)', 'the field server_lr'
  yield 'algorithm', 'ditto(lam="a")', "lam must be a number, got 'a'"
  yield 'algorithm', 'fedprox(mu=10000000000)', 'mu must be a whole number of'
  yield 'algorithm', 'ifca(clusters=2000000000)', 'a state of .* GB'
  yield 'algorithm', 'fedavg(nope=1)', "has no argument 'nope'"
  yield 'algorithm', 'builtins.exit', 'SystemExit'
  yield 'algorithm', 'time.sleep', 'has no signature'
  yield 'uplink', 'clip(0)', 'norm must be positive'
  yield 'uplink', 'median', 'must be one of'
  yield 'uplink', 'eden(bits=17)', 'bits must be a whole number <= 16, got 17'
  yield 'uplink', 'subsample(1.5)', r'fraction must lie in \(0, 1\]'
  yield 'uplink', 'qsgd(4) | drive', "only once, got 'qsgd' and"
  yield 'uplink', 'cast | rotate', "must have 'rotate' before 'cast'"
  yield 'partition', 'dirichlet(-1)', 'alpha must be'
  yield 'partition', 'natural', 'needs a dataset that comes with clients'
  yield 'model', 'a\0b', 'null bytes'
  yield 'local_epochs', 1e10, 'at most 2147483647'


def test_there_are_a_hundred_targeted_configs():
  assert len(list(targeted())) >= 100


@pytest.mark.parametrize('field', sorted({row[0] for row in targeted()}))
def test_the_message_says_what_is_valid(field):
  for name, value, message in targeted():
    if name == field:
      error = error_of({name: value})
      with pytest.raises(ValueError, match=f'config.{name}.*{message}'):
        raise ValueError(error)


QUICK = '--config=configs/digits_quickstart.py'
LINES = [  # (flags, what the one line says)
    ([], 'which experiment'),
    (['--config=nope.py'], "no config file 'nope.py'"),
    ([f'{QUICK}', '--nope'], "Unknown command line flag 'nope'"),
    ([QUICK, 'nope'], "unknown argument 'nope'"),
    ([QUICK, '--config.nope=3'], "got 'nope'"),
    ([QUICK, '--config.client_rl=3'], "Did you mean 'client_lr'"),
    ([QUICK, '--config.client_lr=abc'], 'config.client_lr must be a number'),
    ([QUICK, '--config.client_lr='], 'config.client_lr must be a number'),
    ([QUICK, '--config.client_lr=nan'], 'config.client_lr must be positive'),
    ([QUICK, '--config.rounds=1.5'], 'config.rounds must be a whole number'),
    ([QUICK, '--config.rounds=many'], 'config.rounds must be a whole number'),
    ([QUICK, '--config.rounds=1' + '0' * 30], 'config.rounds must be a whole'),
    ([QUICK, '--config.full_batch=maybe'], 'config.full_batch must be True or'),
    ([QUICK, '--config.local_epochs=[1]'], 'config.local_epochs must be pos'),
    ([QUICK, '--config.devices=many'], "config.devices must be 'auto' or"),
    ([QUICK, '--config.targets=x'], 'config.targets'),
    ([QUICK, '--config.algorithm=fedavg('], 'config.algorithm must be a name'),
    ([QUICK, '--config.model=('], 'config.model must be a name'),
    ([QUICK, '--config.uplink=clip(-1)'], 'config.uplink=clip'),
    ([QUICK, '--config.algorithm=fedprox', '--config.proximal=0.5'],
     "Write --config.algorithm='fedprox(mu=0.5)'"),
    ([QUICK, '--config.client_fraction=1.5', '--dry_run'],
     'error: config.client_fraction must lie in [0, 1]'),
    ([QUICK, '--processes=x'], 'processes'),
    ([QUICK, '--processes=0'], 'processes must be a whole number >= 1'),
    ([QUICK, '--processes=-3'], 'processes must be a whole number >= 1'),
    ([QUICK, '--process=1'], '--process and --coordinator go together'),
    ([QUICK, '--coordinator=127.0.0.1:1234'],
     '--process and --coordinator go together'),
    ([QUICK, '--workdir=/dev/null/x'], "workdir '/dev/null/x' can't be"),
    ([QUICK, '--workdir={folder}/run'], '/run/.lock: Is a directory. '),
    ([QUICK, '--sweep=client_lr'], 'sweep must be field=value'),
    ([QUICK, '--sweep=client_lr='], 'sweep must be field=value'),
    ([QUICK, '--sweep=client_lr=a'], 'client_lr must be'),
    ([QUICK, '--sweep=client_lr=-1,1'], 'client_lr must be positive'),
    ([QUICK, '--sweep=client_lr=1,1'], 'the values of client_lr must differ'),
    ([QUICK, '--sweep=nope=1'], "got 'nope'"),
    ([QUICK, '--sweep=algorithm=fedavg,('], 'algorithm must be a name'),
    ([QUICK, '--sweep=seed=0,1', '--dry_run'], '--sweep runs in one process'),
    ([QUICK, '--dry_run=x'], 'dry_run'),
    (['--config={folder}/wrong.py'], 'wrong.py, line 4: config.client_lr must'),
    (['--config={folder}/name.py'], 'name.py, line 4: NameError'),
    (['--config={folder}/syntax.py'], 'syntax.py, line 4: SyntaxError'),
    (['--config={folder}/field.py'], "Did you mean 'client_lr'"),
]

# Imports once, then each command line in a process of its own.
_DRIVER = '''
import json, os, runpy, sys
import fedjax_sim.experiment.run, fedjax_sim.experiment.run_sweep
told = []
for i, line in enumerate(json.loads(sys.argv[1])):
  child = os.fork()
  if child == 0:
    for number, name in ((1, "out"), (2, "err")):
      os.dup2(os.open(f"{sys.argv[2]}/{i}.{name}",
                      os.O_WRONLY | os.O_CREAT), number)
    sys.argv = ["run.py", *line]
    try:
      runpy.run_path("run.py", run_name="__main__")
      code = 0
    except SystemExit as error:
      code = error.code or 0
    except BaseException:
      import traceback
      traceback.print_exc()
      code = 99
    sys.stdout.flush(), sys.stderr.flush()
    os._exit(code if isinstance(code, int) else 98)
  told.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
print(json.dumps(told))
'''


def test_the_command_line_says_it_in_one_line(tmp_path):
  body = ('from configs import digits_quickstart\ndef get_config():\n'
          '  config = digits_quickstart.get_config()\n  {}\n  return config\n')
  for name, line in (
      ('wrong', "config.client_lr = 'abc'"), ('name', 'config.rounds = nope'),
      ('syntax', 'config.rounds = = 3'), ('field', 'config.client_rl = 0.1')):
    (tmp_path / f'{name}.py').write_text(body.format(line))
  (tmp_path / 'run' / '.lock').mkdir(parents=True)
  lines = [[flag.replace('{folder}', str(tmp_path)) for flag in flags]
           for flags, _ in LINES]
  result = subprocess.run(
      [sys.executable, '-c', _DRIVER, json.dumps(lines), str(tmp_path)],
      cwd=ROOT, capture_output=True, text=True, timeout=400, check=True)
  codes = json.loads(result.stdout.splitlines()[-1])
  for i, (flags, message) in enumerate(LINES):
    said = (tmp_path / f'{i}.err').read_text()
    assert codes[i] == 1, (flags, codes[i], said)
    found = [line for line in said.splitlines() if line.startswith('error: ')]
    assert len(found) == 1 and message in found[0], (flags, said)
    assert 'Traceback' not in said, (flags, said)
