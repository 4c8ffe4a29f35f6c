"""A round's clients, as the plan has them, and what they train on.

Axis letters: E examples in all, M clients in a round's cohort, S slots.
"""

from typing import NamedTuple

import jax

from fedjax_sim.core.model import PyTree


class ClientData(NamedTuple):
  """One client's view of the federation's examples, inside a round.

  Under the engine's `vmap`, `offset` and `size` differ from lane to lane and
  `examples` are shared. `clients.batches` turns it into batches.

  Attributes:
    examples: PyTree [E, ...], those of all clients.
    offset: int32 [], where the client's examples begin.
    size: int32 [], how many it has; 0 in an empty slot.
    max_size: static bound on `size`, the length that orders are padded to.
    ragged: static; clients may differ in their number of local steps.
    common_size: `size` itself where all clients have `max_size` examples, else
      None. An algorithm that trains on a part of them replaces `size`, and so
      tells that its clients may differ.
    work: int32 [], the most local steps that the client gets done, as
      `Slot.work`; None for as many as it wants.
  """

  examples: PyTree
  offset: jax.Array
  size: jax.Array
  max_size: int
  ragged: bool
  common_size: jax.Array | None = None
  work: jax.Array | None = None

  @property
  def is_whole(self) -> bool:
    """Static: whether this is known to be `max_size` examples, or nobody's."""
    return self.common_size is not None and self.size is self.common_size


class Slot(NamedTuple):
  """One client in a round, as the plan has it.

  A *cohort* is a `Slot` of arrays [M]: all clients of a round in the order in
  which they were drawn.

  Attributes:
    client: int32 [], the client's number in the federation; 0 if empty.
    occurrence: int32 [], how often the client came before in the same cohort
      (0 unless sampled with replacement).
    present: bool [], False in an empty slot.
    offset: int32 [], where the client's examples begin in what the device
      holds.
    size: int32 [], how many there are; 0 in an empty slot.
    state_index: int32 [], where the client's state lies among those that the
      device holds; 0 in an empty slot.
    place: int32 [], its position in the cohort.
    arrives: bool [], whether the client's message reaches the server; None if
      all do.
    work: int32 [], local steps that it gets done; None for all of them.
    lag: int32 [], server steps since its model left; None for 0.
  """

  client: jax.Array
  occurrence: jax.Array
  present: jax.Array
  offset: jax.Array
  size: jax.Array
  state_index: jax.Array
  place: jax.Array
  arrives: jax.Array | None = None
  work: jax.Array | None = None
  lag: jax.Array | None = None

  @property
  def is_heard(self) -> jax.Array:
    """bool: somebody is there, and the message arrives."""
    return (self.present if self.arrives is None
            else self.present & self.arrives)

  @property
  def works(self) -> jax.Array:
    """bool: somebody is there, has examples, and gets any step done."""
    here = self.present & (self.size > 0)
    return here if self.work is None else here & (self.work > 0)

  @property
  def counts(self) -> jax.Array:
    """bool: it works, and its message arrives.

    A client that does nothing counts in no mean, whatever the weights, and
    keeps the state that it has.
    """
    return self.works & self.is_heard


class Pool(NamedTuple):
  """The data of a whole cohort, for work that no client does on its own.

  Attributes:
    examples: PyTree [E, ...], those of all clients of the federation.
    offsets: int32 [S], where each slot's examples begin.
    sizes: int32 [S], how many there are; 0 in an empty slot.
    present: bool [S], False in an empty slot.
    keys: [S], the keys that the clients' updates would be given.
  """

  examples: PyTree
  offsets: jax.Array
  sizes: jax.Array
  present: jax.Array
  keys: jax.Array
