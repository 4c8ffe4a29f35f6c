"""Strict mode for all tests: silent broadcasting is an error."""

import jax
import pytest


@pytest.fixture(autouse=True)
def _rank_promotion_raises():
  with jax.numpy_rank_promotion('raise'):
    yield
