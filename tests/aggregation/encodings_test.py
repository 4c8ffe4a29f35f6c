"""Which orders of a chain are refused."""

import jax
import pytest
from jax import numpy as jnp

from fedjax_sim import aggregation
from fedjax_sim.aggregation import secure
from fedjax_sim.aggregation.encodings import Kind
from tests.aggregation import sending

PARTS = {
    kind: lambda kind=kind: aggregation.transform(kind.name, encodes=(kind,))
    for kind in Kind}


ORDERED = (Kind.MIXES, Kind.SELECTS, Kind.CODES)


@pytest.mark.parametrize('first', ORDERED)
@pytest.mark.parametrize('second', ORDERED)
def test_kinds_come_in_order_and_values_are_coded_once(first, second):
  right = first < second or first == second != Kind.CODES
  for wrap in (lambda part: part, lambda part: aggregation.on('a*', part),
               aggregation.chain):
    make = lambda wrap=wrap: aggregation.chain(
        wrap(PARTS[first]()), aggregation.clip(1.0), wrap(PARTS[second]()))
    if right:
      make()
    else:
      with pytest.raises(ValueError, match=f'{first.name}.*{second.name}|'
                         f'{second.name}.*{first.name}'):
        make()


@pytest.mark.parametrize('kind', Kind)
def test_what_repays_has_compressors_within_and_scales_before(kind):
  repays, other = PARTS[Kind.REPAYS], PARTS[kind]
  with pytest.raises(ValueError, match=kind.name):
    aggregation.chain(repays(), other())
  if kind == Kind.SCALES:
    aggregation.chain(other(), repays())
  else:
    with pytest.raises(ValueError, match=kind.name):
      aggregation.chain(aggregation.on('a*', other()), repays())


def test_leaves_of_other_patterns_have_an_order_of_their_own():
  code = lambda pattern: aggregation.on(pattern, PARTS[Kind.CODES]())
  aggregation.chain(code('a*'), code('b*'))
  with pytest.raises(ValueError, match='only once'):
    aggregation.chain(code('a*'), code('b*'), PARTS[Kind.CODES]())
  inner = aggregation.on('a*', aggregation.on('b*', PARTS[Kind.CODES]()))
  with pytest.raises(ValueError, match='only once'):
    aggregation.chain(inner, code('a*'))
  aggregation.chain(inner, aggregation.on('a*', code('c*')))


@pytest.mark.parametrize('make, message', [
    (lambda: aggregation.chain(aggregation.quantize(2), aggregation.rotate()),
     "must have 'rotate' before 'quantize'"),
    (lambda: aggregation.chain(
        aggregation.subsample(0.5), aggregation.rotate()),
     "must have 'rotate' before 'subsample'"),
    (lambda: aggregation.chain(
        aggregation.quantize(2), secure.fixed_point(16.0)),
     "only once, got 'quantize' and, after it, 'fixed_point'")])
def test_parts_of_ours(make, message):
  with pytest.raises(ValueError, match=message):
    make()


def test_what_training_has_left_out_can_not_be_mixed():
  update = {'a': jnp.ones(4)}
  with pytest.raises(ValueError, match='rotate must be given all values'):
    sending.send(aggregation.rotate(), update,
                 sent=jax.tree.map(lambda x: x > 0, update))
