import jax
import numpy as np
import pytest

from fedjax_sim.core import checks


@pytest.mark.parametrize('value', [0, -1, 1.5, '3', None, True, np.nan])
def test_positive_int_refuses(value):
  with pytest.raises(ValueError, match=r'batch_size must be .* >= 1'):
    checks.positive_int('batch_size', value)


@pytest.mark.parametrize('value', [0, -0.1, np.nan, np.inf, '0.1', None])
def test_positive_refuses(value):
  with pytest.raises(ValueError, match='client_lr must be positive'):
    checks.positive('client_lr', value)


@pytest.mark.parametrize('value', [-0.1, 1.1, np.nan, 'x'])
def test_fraction_refuses(value):
  with pytest.raises(ValueError, match=r'must lie in \[0, 1\]'):
    checks.fraction('client_fraction', value)


def test_good_values_come_back():
  assert checks.positive_int('b', np.int64(3)) == 3
  assert checks.positive('lr', 0.1) == 0.1
  assert checks.non_negative('m', 0.0) == 0.0
  assert checks.fraction('c', 0) == 0.0


def test_not_given_names_the_reason():
  checks.not_given('proximal', {'epochs': 2, 'proximal': 0.0}, 'because')
  with pytest.raises(ValueError, match='proximal must not be given: because'):
    checks.not_given('proximal', {'proximal': 0.1}, 'because')


def test_one_of_knows_what_a_name_is_short_for():
  valid = ('', 'auto', 'highest', 'tensorfloat32', 'bfloat16')
  for short, name in (('tf32', 'tensorfloat32'), ('bf16', 'bfloat16')):
    with pytest.raises(ValueError, match=f"Did you mean '{name}'"):
      checks.one_of('precision', short, valid)
  with pytest.raises(ValueError) as error:
    checks.one_of('precision', 'h', valid)
  assert 'Did you mean' not in str(error.value)


def test_one_of_lists_valid_names_and_the_nearest():
  with pytest.raises(ValueError) as caught:
    checks.one_of('partition', 'dirichlett', ['iid', 'dirichlet'])
  assert 'dirichlet, iid' in str(caught.value)
  assert "Did you mean 'dirichlet'" in str(caught.value)


def test_a_traced_rate_passes():
  assert jax.jit(lambda lr: 2 * checks.positive('lr', lr))(-1.0) == -2.0


def test_a_whole_number_that_is_no_float_is_not_finite():
  with pytest.raises(ValueError, match='mu must be finite'):
    checks.non_negative('mu', 10 ** 400)
