import jax
import numpy as np
import pytest
from jax import numpy as jnp

from fedjax_sim.core import compilation, loops


def _client(shared, num_steps, key):
  """A loop in a loop, closing over tracers of both kinds."""
  own = jax.random.fold_in(key, 1)

  def outer(i, carry):
    inner_key = jax.random.fold_in(own, i)

    def inner(t, carry):
      draw = jax.random.uniform(jax.random.fold_in(inner_key, t), (3,))
      return carry * 0.9 + draw * num_steps + shared
    return loops.fori_lanes(num_steps, inner, carry)

  return loops.fori_lanes(jnp.int32(2), outer, jnp.zeros(3), narrow=False)


def _reference(shared, num_steps, key):
  carry = np.zeros(3, np.float32)
  own = jax.random.fold_in(key, 1)
  for i in range(2):
    for t in range(num_steps):
      draw = jax.random.uniform(
          jax.random.fold_in(jax.random.fold_in(own, i), t), (3,))
      carry = carry * np.float32(0.9) + np.asarray(draw) * num_steps + shared
  return carry


@pytest.mark.parametrize('platform', ['cpu', 'gpu'])
@pytest.mark.parametrize('steps', [[7, 5, 5, 3, 0], [0, 3, 9, 1, 4], [2] * 5])
def test_each_lane_runs_its_own_number_of_steps(steps, platform):
  keys = jax.random.split(jax.random.key(0), len(steps))
  lanes = jax.vmap(_client, in_axes=(None, 0, 0))
  with compilation.target(platform):
    got = jax.jit(lanes)(jnp.float32(0.5), jnp.array(steps), keys)
  want = [_reference(np.float32(0.5), n, k)
          for n, k in zip(steps, keys, strict=True)]
  np.testing.assert_allclose(got, want, rtol=1e-5)


def test_vmap_of_vmap_is_each_alone():
  steps, keys = jnp.array([4, 1, 0]), jax.random.split(jax.random.key(1), 3)
  lanes = jax.vmap(_client, in_axes=(None, 0, 0))
  shared = jnp.array([0.5, 2.0])
  both = jax.jit(jax.vmap(lanes, in_axes=(0, None, None)))(shared, steps, keys)
  for i in range(2):
    np.testing.assert_allclose(both[i], lanes(shared[i], steps, keys), 1e-6)


def test_work_narrows_with_the_lanes():
  """Lane-steps done: 8 wide until 1, 4 wide until 2, 2 until 3, 1 until 9."""
  done = []

  def body(t, carry):
    jax.debug.callback(lambda _: done.append(1), carry)
    return carry + 1

  steps = jnp.array([9, 3, 2, 2, 1, 1, 1, 0])
  out = jax.vmap(lambda n: loops.fori_lanes(n, body, jnp.float32(0)))(steps)
  jax.effects_barrier()
  np.testing.assert_array_equal(out, steps)
  assert len(done) == 8 * 1 + 4 * 1 + 2 * 1 + 1 * 6


def test_widths():
  for lanes, on_cpu, elsewhere in (
      (1, (1,), (1,)), (2, (2, 1), (2, 1)), (8, (8, 4, 2, 1), (8, 4, 1)),
      (10, (10, 8, 4, 2, 1), (10, 5, 1))):
    assert loops.phase_widths(lanes, 'cpu') == on_cpu
    for platform in ('gpu', 'tpu'):
      assert loops.phase_widths(lanes, platform) == elsewhere


def test_carry_of_another_type_is_refused():
  with pytest.raises(ValueError, match='same structure, shapes'):
    loops.fori_lanes(jnp.int32(2), lambda t, c: c[None], jnp.zeros(3))


def test_a_weak_carry_takes_a_type_of_its_own():
  out = loops.fori_lanes(jnp.int32(3), lambda t, c: c + jnp.float32(1), 0.0)
  assert out == 3.0
