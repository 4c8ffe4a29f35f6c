"""The k largest entries of an update, the others zero.

    sent_k = update where |update| is among its k largest, else 0

Aji, Heafield, "Sparse Communication for Distributed Gradient Descent" (2017);
Stich, Cordonnier, Jaggi, "Sparsified SGD with Memory" (2018), definition 2.1.
Biased: |sent - update|^2 <= (1 - k / d) |update|^2, never more, mostly far
less. Small entries would never come; `error_feedback(top_k(0.01))` sends them
once they have added up.
"""

from fedjax_sim.aggregation import selection, vectors
from fedjax_sim.aggregation.encodings import Kind
from fedjax_sim.aggregation.transform import transform
from fedjax_sim.core import coders
from fedjax_sim.core.largest import largest
from fedjax_sim.core.types import Message, MessageTransform


def top_k(
    fraction: float | None = None, *, k: int | None = None,
    over: str = 'vector',
) -> MessageTransform:
  """Sends the entries of the largest absolute values, as they are.

  Exactly k travel, of equal ones the first. Which they are goes along, by the
  lengths of the runs between (`coders.positions`).

  Args:
    fraction: in (0, 1], of the d entries: k is fraction * d, rounded, at
      least 1.
    k: how many, instead.
    over: 'vector' chooses among all floating leaves together, as the papers
      do, so that layers of small updates send little; 'leaf' k of each.

  Raises:
    ValueError: not one of `fraction` and `k` is given, or one is out of range;
      when a simulation is built, `k` is more than there are entries.
  """
  number = selection.number_of('top_k', fraction, k)
  vectors.check_over(over)

  def client(message: Message, state, memory, keys, cohort):
    del state, keys, cohort
    chosen = []
    for x in vectors.of(message.update, over):
      k = number(x.size)
      mask = largest(selection.by_magnitude(x), k)
      chosen.append(selection.Selected(mask, k, 1, coders.positions(mask)))
    return selection.message_of(message, chosen, over), memory

  return transform('top_k', client=client, encodes=(Kind.SELECTS,))
