"""For all tests: silent broadcasting is an error, and quicker compiling.

Most of the suite's time is spent compiling. LLVM's expensive passes make code
faster, not other code: XLA's own passes, fusion among them, stay as they are.
Processes that tests start inherit the flag.
"""

import os

os.environ['XLA_FLAGS'] = (
    os.environ.get('XLA_FLAGS', '')
    + ' --xla_llvm_disable_expensive_passes=true').strip()

import jax  # noqa: E402
import pytest  # noqa: E402


@pytest.fixture(autouse=True)
def _rank_promotion_raises():
  with jax.numpy_rank_promotion('raise'):
    yield
