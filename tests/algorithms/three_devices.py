"""Run by devices_test.py, in a process with three CPU devices."""

import jax
import pytest

from tests.algorithms.cases import CASES, some_always
from tests.algorithms.common_test import MODEL, assert_close, build, run


@pytest.mark.parametrize('name', some_always(CASES))
def test_devices_do_not_matter(name):
  algorithm = CASES[name](MODEL)
  one, three = (run(build(algorithm, 1, devices)) for devices in (1, 3))
  assert_close(three.server, one.server)
  # Each device holds its share of the clients, filled up.
  rows = lambda tree: [x[:4] for x in jax.tree.leaves(tree)]
  assert_close(rows(three.clients), rows(one.clients))
