"""Random subsets of values."""

import jax
import numpy as np
import pytest
from jax import numpy as jnp

from fedjax_sim import aggregation
from fedjax_sim.core import costs
from tests.aggregation import sending

UPDATE = {'a': jnp.full((40, 25), 3.0), 'b': jnp.full(50, -1.0),
          'whole': jnp.arange(3)}


def test_what_is_sent_is_scaled_and_counted():
  sent = sending.send(aggregation.subsample(0.25), UPDATE)
  number = 0
  for name in ('a', 'b'):
    got = np.asarray(sent.update[name])
    np.testing.assert_array_equal(got != 0, sent.sent[name])
    assert set(np.unique(got)) == {0, float(UPDATE[name].max()) * 4}
    number += np.sum(got != 0)
  assert abs(number - 1050 / 4) < 5 * np.sqrt(1050 * 0.25 * 0.75)
  np.testing.assert_array_equal(sent.update['whole'], UPDATE['whole'])
  assert costs.total(sent.cost) == 32 * (number + 3) + 32


def test_all_of_them_is_the_update():
  sent = sending.send(aggregation.subsample(1.0), UPDATE)
  jax.tree.map(np.testing.assert_array_equal, sent.update, UPDATE)


def test_what_was_left_out_before_stays_out():
  mask = jax.tree.map(lambda x: jnp.arange(x.size).reshape(x.shape) % 2 > 0,
                      UPDATE)
  sent = sending.send(aggregation.subsample(0.5), UPDATE, sent=mask)
  for name in ('a', 'b'):
    assert not np.any(sent.sent[name] & ~mask[name])
    share = np.mean(sent.sent[name])
    assert abs(share - 0.25) < 5 * np.sqrt(0.2 / UPDATE[name].size)


@pytest.mark.parametrize('fraction', [0, -0.5, 1.01, True, 'a'])
def test_wrong_fractions(fraction):
  with pytest.raises(ValueError, match='fraction'):
    aggregation.subsample(fraction)
