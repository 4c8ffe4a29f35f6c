"""What is said of a NaN or an infinity: whose it is, and where it was seen."""

import jax
import numpy as np
import optax
import pytest
from jax import numpy as jnp

from fedjax_sim import DivergenceError, aggregation, algorithms
from fedjax_sim.core.types import Model
from fedjax_sim.data.federated import federate
from fedjax_sim.experiment.simulate import simulate
from fedjax_sim.simulation import sweep as sweep_lib
from fedjax_sim.simulation.drive import drive
from fedjax_sim.simulation.sweep_runs import SweepRuns
from tests import toys

SIZES = [4, 9, 3, 6, 5, 7]
IDS = ['ant', 'bee', 'cat', 'dog', 'eel', 'fox']
ALL = {'clients_per_round': 6, 'rounds': 3, 'devices': 1, 'lanes': 4}


def data_of(*bad):
  """Examples, those of `bad` clients marked as odd."""
  data = toys.softmax_data(SIZES)
  odd = np.repeat(np.isin(np.arange(6), bad), SIZES).astype(np.float32)
  return federate({**data.examples, 'odd': odd}, toys.partition_of(SIZES), IDS)


def model_of(with_gradient=True) -> Model:
  """The loss of odd examples is a NaN, with its gradient or without."""
  base = toys.softmax_model()

  def loss(outputs, examples):
    plain, odd = base.loss(outputs, examples), examples['odd'] > 0
    if with_gradient:
      return plain * jnp.where(odd, jnp.nan, 1.0)
    return jnp.where(odd, jnp.nan, plain)

  return base._replace(loss=loss)


def spoil(*clients):
  """A transform that makes the updates of some clients NaN."""
  def client(message, state, memory, keys, cohort):
    if message.slot is None:  # Where a chain only asks for shapes.
      return message, memory
    bad = jnp.isin(message.slot.client, jnp.array(clients))
    return message._replace(update=jax.tree.map(
        lambda u: jnp.where(bad, jnp.nan, u), message.update)), memory
  return aggregation.transform('spoil', client=client)


def reject_bad():
  """A transform that drops updates that are not finite."""
  def client(message, state, memory, keys, cohort):
    finite = jnp.all(jnp.array(
        [jnp.all(jnp.isfinite(u)) for u in jax.tree.leaves(message.update)]))
    return message._replace(present=message.present & finite), memory
  return aggregation.transform('reject_bad', client=client)


def fedavg(model, *transforms, reduce=None, rate=0.1, **options):
  aggregator = aggregation.aggregator(*transforms, reduce=reduce) if (
      transforms or reduce) else None
  return algorithms.fedavg(model, optax.sgd(rate), batch_size=3,
                           aggregator=aggregator, **options)


def diverged(model, algorithm, data, **options) -> DivergenceError:
  with pytest.raises(DivergenceError) as caught:
    simulate(model, algorithm, data, **ALL | options)
  return caught.value


@pytest.mark.parametrize('options', [
    {}, {'devices': 2, 'lanes': 2}, {'lanes': 1}])
def test_a_loss_names_its_clients_and_no_others(options):
  model = model_of(with_gradient=False)
  error = diverged(model, fedavg(model), data_of(1, 4), **options)
  assert error.round == 1 and error.clients == ['bee', 'eel']
  assert error.parts == {'bee': 'loss', 'eel': 'loss'}
  assert 'the loss of clients bee, eel.' in str(error)
  assert 'learning rate' in str(error) and 'half-precision' in str(error)


@pytest.mark.parametrize('options', [{}, {'devices': 2, 'lanes': 2}])
def test_an_update_names_its_client_and_no_others(options):
  model = toys.softmax_model()
  error = diverged(model, fedavg(model, spoil(2)), data_of(), **options)
  assert error.parts == {'cat': 'update'}
  assert 'the update of client cat' in str(error)


def test_loss_and_update_are_told_together():
  error = diverged(model_of(), fedavg(model_of()), data_of(2))
  assert error.parts == {'cat': 'loss and update'}


def test_clients_outside_of_the_cohort_are_not_named():
  model = model_of()
  error = diverged(model, fedavg(model), data_of(*range(6)),
                   clients_per_round=2)
  assert len(error.clients) == 2


def test_the_weights_of_masked_integers_tell_as_well():
  model = toys.softmax_model()
  whole = aggregation.masked_mean()
  algorithm = algorithms.fedavg(
      model, optax.sgd(0.1), batch_size=3, aggregator=aggregation.aggregator(
          spoil(3), whole.transform, reduce=whole.reducer))
  assert diverged(model, algorithm, data_of()).parts == {'dog': 'update'}


def test_the_server_is_named_where_no_client_is():
  model = toys.softmax_model()
  bad = optax.stateless(lambda updates, params: jax.tree.map(
      lambda u: -u * (jnp.inf if u.shape == (4, 3) else 1.0), updates))
  algorithm = algorithms.fedavg(model, optax.sgd(0.1), bad, batch_size=3)
  error = diverged(model, algorithm, data_of())
  assert error.clients == [] and 'server_lr' in str(error)


def test_a_nan_in_a_test_set_names_the_set():
  model = model_of()
  good, bad = data_of().examples, data_of(0).examples
  error = diverged(model, fedavg(model), data_of(), test=good,
                   more_sets={'odd': bad})
  assert error.sets == ['odd'] and error.clients == []
  assert "The evaluation on 'odd'" in str(error)
  assert 'client_lr' not in str(error)


@pytest.mark.parametrize('parts', [
    {'transforms': (reject_bad(),)}, {'reduce': aggregation.median()}])
def test_whose_update_is_rejected_counts_in_no_metric(parts):
  model = model_of()
  transforms = parts.get('transforms', ())
  algorithm = fedavg(model, *transforms, reduce=parts.get('reduce'))
  result = simulate(model, algorithm, data_of(1), **ALL)
  others = [c for c in range(6) if c != 1]
  data = data_of()
  rows = np.concatenate([np.arange(*data.offsets[c:c + 2]) for c in others])
  alone = federate(jax.tree.map(lambda x: x[rows], data.examples),
                   toys.partition_of([SIZES[c] for c in others]))
  want = simulate(model, algorithm, alone, **ALL | {'clients_per_round': 5})
  assert len(result.records) == 3
  assert np.isfinite(result.records[-1]['train/loss'])
  # Both begin with the same model; the orders of examples differ.
  assert result.records[0]['train/loss'] == pytest.approx(
      want.records[0]['train/loss'], rel=0.2)


def test_a_member_of_a_sweep_names_its_clients():
  model = model_of()
  members = [sweep_lib.Member(seed, {'rate': 0.1}) for seed in (0, 1)]
  sweep = sweep_lib.build(
      model, lambda rate: fedavg(model, rate=rate), [data_of(5)],
      cohort_size=6, num_members=2, example=members[0].hyperparameters,
      devices=1, lanes=4)
  runs = SweepRuns(sweep=sweep, members=members)
  (progress,) = list(drive(runs, sweep.init(members), 2))
  assert {i: e.clients for i, e in progress.diverged.items()} == {
      0: ['fox'], 1: ['fox']}
