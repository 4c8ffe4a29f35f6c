"""Which compressors lose less than there is, as error feedback needs.

C is a contraction if for some delta > 0 and all x

    E |C(x) - x|^2 <= (1 - delta) |x|^2

Of others the memory of error feedback may grow from round to round, without
bound: Karimireddy, Rebjock, Stich, Jaggi, "Error Feedback Fixes SignSGD and
other Gradient Compression Schemes" (2019), assumption A; Stich, Cordonnier,
Jaggi, "Sparsified SGD with Memory" (2018), definition 2.1.

A part says by `Encoding.lacks` that it is none. That of an unbiased code
depends on how many values n a vector has. The worst x, for which the bounds
below are attained, have few large values among many small ones. So they are
looked at only where a code is given an update as it is: after a rotation or a
selection its values are not of that kind, and their number is not known.
"""

from collections.abc import Callable, Iterable

from fedjax_sim.aggregation import vectors
from fedjax_sim.aggregation.encodings import Encoding, Kind
from fedjax_sim.core.types import PyTree


def of_vectors(
    over: str, lacks: Callable[[int], str]
) -> Callable[[PyTree], str]:
  """`Encoding.lacks` from that of a vector with n values.

  Args:
    over: 'leaf' or 'vector'.
    lacks: what is missing for n values; '' for nothing.
  """
  def of_update(update: PyTree) -> str:
    longest = max(vectors.sizes(update, over), default=0)
    return lacks(longest) if longest else ''
  return of_update


def check(
    name: str, encodings: Iterable[Encoding], update: PyTree | None = None
) -> None:
  """ValueError if a part is known not to be a contraction.

  Args:
    name: of what is around the parts, such as 'error_feedback'.
    encodings: of the parts, in order.
    update: one, or its shapes; None looks only at what holds of all.
  """
  before = []
  for encoding in encodings:
    lacks = encoding.lacks
    if not isinstance(lacks, str):
      lacks = '' if update is None or before else lacks(update)
    if lacks:
      raise ValueError(
          f'{name} must be given compressors that lose less than there is, or '
          f'what it keeps of a client grows without bound; {encoding.name!r} '
          f'does so {lacks}.')
    if encoding.kind in (Kind.MIXES, Kind.SELECTS):
      before.append(encoding)
