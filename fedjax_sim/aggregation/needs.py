"""What an algorithm needs of its aggregation, since it is wrong without it.

Most algorithms take any aggregator: they step by whatever mean they are given.
Some compute with that mean, and would go wrong without any error. Their
builders say here what they need.
"""

import enum

from fedjax_sim.aggregation import encodings, kinds
from fedjax_sim.core.types import Aggregator, MessageTransform

_REPAID = ('Use compressors in error_feedback, such as '
           'error_feedback(top_k(0.01)).')


class Need(enum.Enum):
  """A need; the value says it in the words of an error.

  `WEIGHTS`: clients count by the weights of their messages, which `fixed_mean`
  and `median` leave out.

  `COHORT`: the mean is over the messages of the round. That of `ef21` is over
  all clients seen so far.

  `SUM`: it is their sum, divided by something, and the server reads each of
  them. A median is no sum, and masked messages are read in a sum only.

  `NOTHING_LOST`: what the server adds up is what the clients have found, up to
  what `error_feedback` sends later. With a clip or a compressor the server's
  sum drifts away from that of its clients, and nothing brings it back; a random
  error, though its mean is zero, makes it a random walk.
  """

  WEIGHTS = 'clients count by their weights'
  COHORT = 'the mean must be over the messages of a round'
  SUM = 'the server reads each message, and adds them up'
  NOTHING_LOST = 'the server keeps a sum of all that clients send'


def check(
    algorithm: str, aggregator: Aggregator | None, *needs: Need
) -> None:
  """ValueError if the aggregator does not give an algorithm what it needs.

  Parts say what they lose by `encodes` of `transform`; of those that say
  nothing it is taken that they lose nothing.

  Args:
    algorithm: its name.
    aggregator: None is the weighted mean.
    *needs: of the algorithm.
  """
  if aggregator is None:
    return
  kinds.check('aggregator', aggregator, Aggregator,
              'a whole aggregator, such as aggregator(clip(1.0))')
  transform, reducer = aggregator.transform, aggregator.reducer
  if Need.WEIGHTS in needs and not reducer.weighs:
    raise ValueError(
        f'reduce must be weighted_mean() in {algorithm}, where '
        f'{Need.WEIGHTS.value}, got {reducer.name}, which leaves them out.')
  if Need.SUM in needs and not reducer.linear:
    means = 'weighted_mean()' if Need.WEIGHTS in needs else (
        'a mean, weighted_mean() or fixed_mean(n),')
    raise ValueError(f'reduce must be {means} in {algorithm}, where '
                     f'{Need.SUM.value}, got {reducer.name}.')
  total = adding(transform)
  if Need.COHORT in needs and total:
    raise ValueError(
        f'uplink must not have {total!r} in {algorithm}, where '
        f'{Need.COHORT.value}: the mean of {total} is over all clients seen so '
        f'far. {_REPAID}')
  lost = transform and encodings.losing(transform.encodings)
  if Need.NOTHING_LOST in needs and lost:
    raise ValueError(
        f'uplink must lose nothing for good in {algorithm}, where '
        f'{Need.NOTHING_LOST.value}, got {lost.name!r}, which '
        f'{encodings.does(lost)}. {_instead(lost)}')


def adding(transform: MessageTransform | None) -> str | None:
  """The name of a part that adds up on the server what is sent, as `ef21`."""
  if transform is None:
    return None
  parts = transform.parts or (transform,)
  return next((part.name for part in parts if part.needs_linear), None)


def _instead(lost: encodings.Encoding) -> str:
  return 'Leave it out.' if lost.kind == encodings.Kind.SCALES else _REPAID
