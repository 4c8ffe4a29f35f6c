"""What passes for an optimizer: of optax, ours, and of users' own."""

import inspect
import warnings

import optax
import pytest
from optax import contrib

from fedjax_sim import algorithms
from fedjax_sim.core import optimizer_checks
from tests import toys

MODEL = toys.softmax_model()


@pytest.mark.parametrize('optimizer, message', [
    (optax.sgd(0.1, momentum=5), r'momentum in \[0, 1\), got 5'),
    (optax.sgd(0.1, momentum=-0.5), r'momentum in \[0, 1\), got -0.5'),
    (optax.adam(0.1, b1=1.5), r'b1 in \[0, 1\), got 1.5'),
    (optax.adam(0.1, b2=1.0), r'b2 in \[0, 1\), got 1.0'),
    (optax.rmsprop(0.1, decay=2), r'decay in \[0, 1\), got 2'),
    (optax.adam(0.1, eps=-1.0), 'eps at least 0, got -1.0'),
    (optax.sgd(1e-50), 'learning_rate finite and not 0 in float32, got 1e-50'),
    (optax.sgd(float('nan')), 'learning_rate finite'),
    (optax.chain(optax.clip_by_global_norm(-1.0), optax.sgd(0.1)),
     'max_norm positive, got -1.0'),
    (optax.sgd(-0.1), 'it climbs: its learning rate is negative'),
    (optax.adam(lambda count: -1e-3), 'it climbs'),
    (optax.scale_by_adam(), 'it climbs'),
    (optax.scale_by_rprop(0.1), 'it climbs'),
    (optax.clip(1.0), 'it climbs'),
    (optax.lbfgs(0.1), "it needs 'value', 'grad', and 'value_fn' as well"),
    (optax.polyak_sgd(), "it needs 'value' as well"),
    (contrib.sophia(0.1), 'it needs obj_fn as well'),
    (contrib.schedule_free_sgd(0.1), "by optax's schedule_free"),
    (contrib.sam(optax.sgd(0.1), optax.sgd(0.1)), "by optax's sam"),
    (optax.lookahead(optax.sgd(0.1), 5, 0.5), "by optax's lookahead"),
    (optax.sgd('0.1'), r'learning_rate a number, got text \(in optax.scale'),
    (optax.sgd(0.1, momentum='0.9'), "momentum a number, got '0.9'"),
    (optax.adam(0.1, b1=True), 'b1 a number, got True'),
    (optax.adamw(0.1, weight_decay='1'), "weight_decay a number, got '1'"),
    (optax.sgd(lambda step: 0.0), 'a learning rate, but its schedule gives 0'),
    (optax.sgd(optax.linear_schedule(0.1, -0.1, 20)), 'gives -0.1 at step 100'),
    (0.1, 'must be an optax optimizer'),
])
def test_what_can_not_train_is_refused_with_the_reason(optimizer, message):
  with pytest.raises(ValueError, match=f'^client_optimizer .*{message}'):
    algorithms.fedavg(MODEL, optimizer)
  with pytest.raises(ValueError, match=f'^server_optimizer .*{message}'):
    algorithms.fedavg(MODEL, optax.sgd(0.1), optimizer)


@pytest.mark.parametrize('optimizer', [
    optax.sgd(0.1, momentum=0.9, nesterov=True),
    optax.sgd(optax.warmup_cosine_decay_schedule(0.0, 0.1, 10, 100)),
    optax.MultiSteps(optax.adam(0.1), 3),
    optax.noisy_sgd(0.1, eta=1e6, key=0),
    optax.fromage(0.1),
    optax.sm3(0.1),
    optax.inject_hyperparams(optax.adam)(learning_rate=0.1),
    optax.partition({'a': optax.sgd(0.1)}, {'w': 'a', 'b': 'a'}),
    optax.masked(optax.sgd(0.1), lambda params: {'other': True}),
    algorithms.fedadam(0.1),
])
def test_optimizers_of_all_kinds_are_taken(optimizer):
  """Also those that fit their own parameters only."""
  assert optimizer_checks.problem(optimizer) == ''


@pytest.mark.slow
def test_all_of_optax_that_take_a_rate():
  """Which are no optimizers here: a change of optax shows."""
  refused = set()
  for module in (optax, contrib):
    for name, builder in vars(module).items():
      if not inspect.isfunction(builder) or name == 'dpsgd' or (
          'learning_rate' not in inspect.signature(builder).parameters):
        continue
      with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        try:
          made = builder(0.1)
        except TypeError:  # It needs more than a rate.
          continue
        if optimizer_checks.problem(made):
          refused.add(name)
  assert refused == {
      'lbfgs', 'scale_by_rprop', 'momo', 'momo_adam', 'schedule_free_adamw',
      'schedule_free_sgd', 'sophia'}
