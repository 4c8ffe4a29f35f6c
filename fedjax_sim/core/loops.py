"""The loop of local steps: written for one client, run over lanes.

Clients of a block have different numbers of steps. A plain `vmap` of a loop
with such a trip count batches the loop's condition and runs every lane to the
end, with selects on everything. Here the trip count stays one scalar, and the
loop narrows to the lanes that still work.
"""

from collections.abc import Callable

import jax
from jax import numpy as jnp
from jax.custom_batching import custom_vmap
from jax.extend import core as jex_core

from fedjax_sim.core import compilation, trees
from fedjax_sim.core.types import PyTree


def phase_widths(num_lanes: int, platform: str) -> tuple[int, ...]:
  """All lanes, then ever fewer of them.

  On a CPU a step of half the lanes takes half the time: powers of two, down to
  one lane. An accelerator launches as many kernels for few lanes as for many,
  and each width compiles the step once more: a half and an eighth. Of sizes
  spread evenly from 0 on, 29% of what is computed is padding then, 25% with
  all powers of two.
  """
  if platform == 'cpu':
    powers = [1 << i for i in range(num_lanes.bit_length())]
    return (num_lanes, *[p for p in reversed(powers) if p < num_lanes])
  fewer = [num_lanes // part for part in (2, 8)]
  return (num_lanes, *[width for width in fewer if width])


def fori_lanes(
    num_steps: jax.Array,
    body: Callable[[jax.Array, PyTree], PyTree],
    carry: PyTree,
    *,
    narrow: bool = True,
    equal: bool = False,
) -> PyTree:
  """`fori_loop(0, num_steps, body, carry)`, efficient under one `vmap`.

  Without `vmap` it is that loop. Under `vmap` over W lanes the body runs in
  phases over a shrinking prefix of the lanes (`phase_widths`): all W of them
  until only the first half or so still has steps, then these, and so on. A lane
  that has done its steps is left as it is. The result doesn't depend on the
  order of lanes, the cost does: sort them, most steps first.

  It has no reverse mode.

  Args:
    num_steps: int32 [], a client's number of steps; differs over lanes.
    body: `(step, carry) -> carry`; may close over anything.
    carry: PyTree of arrays, keys included.
    narrow: False runs all lanes to the end, which compiles `body` once.
    equal: promises that all lanes have the same number of steps, but for some
      that have none and whose carry nobody looks at. Then no lane has to be
      kept as it is, which would cost a pass over the whole carry in each step
      and keep the compiler from updating weights where it computes gradients.

  Returns:
    The carry after the last step.
  """
  carry = jax.tree.map(_strong, carry)
  closed, out_shape = jax.make_jaxpr(body, return_shape=True)(
      jnp.int32(0), carry)
  _check_carry(carry, out_shape)
  treedef = jax.tree.structure(carry)

  # custom_vmap can't see what `body` closes over, so that is passed along.
  def step(consts, t, carry):
    function = jex_core.jaxpr_as_fun(
        jex_core.ClosedJaxpr(closed.jaxpr, consts))
    return jax.tree.unflatten(treedef, function(t, *jax.tree.leaves(carry)))

  @custom_vmap
  def loop(num_steps, consts, carry):
    return jax.lax.fori_loop(
        0, num_steps, lambda t, c: step(consts, t, c), carry)

  @loop.def_vmap
  def over_lanes(num_lanes, batched, num_steps, consts, carry):
    steps_batched, consts_batched, carry_batched = batched
    num_steps = _broadcast(num_steps, steps_batched, num_lanes)
    carry = jax.tree.map(
        lambda x, b: _broadcast(x, b, num_lanes), carry, carry_batched)
    axes = [0 if b else None for b in consts_batched]
    lanes_step = jax.vmap(step, in_axes=(axes, None, 0))
    if equal:
      carry = jax.lax.fori_loop(
          0, jnp.max(num_steps), lambda t, c: lanes_step(consts, t, c), carry)
    else:
      widths = (num_lanes,)
      if narrow:
        widths = phase_widths(num_lanes, compilation.platform())
      carry = _run_phases(
          lanes_step, widths, num_steps, consts, consts_batched, carry)
    return carry, jax.tree.map(lambda _: True, carry)

  return loop(num_steps, list(closed.consts), carry)


def _run_phases(
    lanes_step, widths, num_steps, consts, consts_batched, carry
) -> PyTree:
  """Runs `lanes_step` for every width, from where the wider one stopped."""
  start = jnp.int32(0)
  for width, next_width in zip(widths, (*widths[1:], 0), strict=True):
    # Whatever a lane beyond the next phase's width has to do is done in this
    # one, so the next phase may forget it.
    stop = jnp.maximum(start, jnp.max(num_steps[next_width:]))
    consts_here = [c[:width] if b else c
                  for c, b in zip(consts, consts_batched, strict=True)]
    steps_here = num_steps[:width]

    def active_step(t, c, consts_here=consts_here, steps_here=steps_here):
      return trees.where(t < steps_here, lanes_step(consts_here, t, c), c)

    head = jax.lax.fori_loop(
        start, stop, active_step, jax.tree.map(lambda x, w=width: x[:w], carry))
    carry = head if width == widths[0] else jax.tree.map(
        lambda h, x, w=width: jnp.concatenate([h, x[w:]]), head, carry)
    start = stop
  return carry


def _strong(x) -> jax.Array:
  """An array whose type doesn't give way to the body's."""
  x = jnp.asarray(x)
  if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
    return x
  return jax.lax.convert_element_type(x, x.dtype)


def _broadcast(x: jax.Array, is_batched: bool, num_lanes: int) -> jax.Array:
  return x if is_batched else jnp.broadcast_to(x, (num_lanes, *x.shape))


def _check_carry(carry: PyTree, out_shape: PyTree) -> None:
  describe = lambda tree: jax.tree.map(lambda x: (x.shape, str(x.dtype)), tree)
  before, after = describe(carry), describe(out_shape)
  if before != after:
    raise ValueError(
        'the body of a loop must return a carry of the same structure, shapes '
        f'and dtypes as it takes: it takes {before}, and returns {after}.')
