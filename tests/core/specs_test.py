"""Specs: their text, what it is bound to, what is built, what differs."""

import sys
from collections.abc import Callable
from typing import Literal, TypedDict, Unpack

import optax
import pytest

from fedjax_sim.core import builders, namespaces, specs, variants


@specs.traceable('decay')
class Options(TypedDict, total=False):
  steps: int
  decay: float


def max_of(outputs, examples):
  return max(outputs, examples)


@specs.traceable('lam')
def ditto(model, *, lam: float, inner=None, seed: int = 0,
          **options: Unpack[Options]):
  return 'ditto', model, lam, inner, seed, options


def shards(labels, num_clients, per_client: int, *, seed: int):
  return labels, num_clients, per_client, seed


@specs.traceable('lr', 'scale')
def delayed(*, lr: float, scale: float = 1.0):
  return lr, scale


def broken(kind: str = 'key'):
  raise {'key': KeyError, 'zero': ZeroDivisionError}[kind]('of its\n own.')


def kinds(*optimizers: optax.GradientTransformation, count: int = 1,
          flag: bool = False, text: str | None = None,
          rate: optax.ScalarOrSchedule = 0.1, loss: Callable = max_of):
  return optimizers, count, flag, text, rate, loss


def chosen(optimizer: optax.GradientTransformation | None = None,
           ) -> optax.GradientTransformation:
  return optimizer or optax.identity()


def unsaid(eps=1e-6, sizes: int | list[int] = 3, mode: Literal['a'] = 'a'):
  return eps, sizes, mode


@specs.traceable('bound')
def clip(bound, kind='l2'):
  if bound <= 0:
    raise ValueError(f'bound must be positive, got {bound!r}.')
  return 'clip', bound, kind


def apply(function: Callable[[int], int], extra: Callable | None = None):
  return function(2), extra


def twice(x):
  return 2 * x


def alone():
  return 'alone'


def several(*parts, name=''):
  return parts, name


CONTEXT = {'model': 'M', 'seed': 5, 'labels': [0], 'num_clients': 3}
SPACE = namespaces.Namespace(
    'algorithm', {f.__name__: f for f in (
        ditto, shards, clip, apply, alone, several, delayed, broken, kinds,
        unsaid, chosen)},
    context=frozenset(CONTEXT), parts={
        'twice': twice, 'sgd': optax.sgd, 'max_of': max_of},
    fields={'labels': 'data'},
    combine=lambda *parts: parts)


def build(text, space=SPACE):
  return builders.build(builders.bind(text, space), CONTEXT)


@pytest.mark.parametrize('name', ['eps', 'sizes', 'mode'])
def test_a_truth_value_is_no_number_list_or_word(name):
  assert build('unsaid(2, [1], "a")') == (2, [1], 'a')
  with pytest.raises(ValueError, match=f'{name} must be .*, got True'):
    build(f'unsaid({name}=True)')


@pytest.mark.parametrize('text, canonical', [
    ('fedavg', 'fedavg'), (' fedavg ( ) ', 'fedavg()'),
    ('a.b.c(x=1e-3,y=-2)', 'a.b.c(x=0.001, y=-2)'),
    ('a(1, "it\'s", None, True)', 'a(1, "it\'s", None, True)'),
    ('a([1,b(2)], {"k": c, 1: (2,)})', "a([1, b(2)], {'k': c, 1: (2,)})"),
    ('a|b(1)|c', 'a | b(1) | c'), ('a | (b | c)', 'a | b | c'),
    ('on("dense*",q(bits=2)|r)', "on('dense*', q(bits=2) | r)")])
def test_text_is_read_and_written(text, canonical):
  spec = specs.parse('field', text)
  assert specs.text_of(spec) == canonical
  assert specs.parse('field', canonical) == spec


@pytest.mark.parametrize('text, why', [
    ('', 'may not be empty'), ('a(nan)', 'argument 1 of a must be finite'),
    ('a(x=-inf)', 'x must be finite'),
    ('a' + ' | a' * 100, 'more than 100 parts'),
    ('a(' * 21 + ')' * 21, 'more than 20 deep'),
    ('a' + ' | a' * 9000, 'more than 100 parts'),
    ('a(', 'never closed'), ('a b', 'invalid syntax'),
    ('3', "'3' is neither"), ('a + b', "'a \\+ b' is neither"),
    ('async(x=1)', "'async' is a keyword of Python and cannot be a name"),
    ('a("in", lambda=1)', "'lambda' is a keyword"),
    ('a(x=1, x=2)', 'x is given twice'), ('a(**b)', r'\*\* is not'),
    ('a(*b)', 'neither'), ('a()()', 'no name'), ('a(lambda: 1)', 'neither'),
    ('a[0]', 'neither'), ('a(1e999)', 'no finite number'), ('a(b"x")', 'b.x')])
def test_what_is_no_spec(text, why):
  with pytest.raises(ValueError, match='field must be a name or a call') as e:
    specs.parse('field', text)
  assert e.match(why)


def test_split_at_top_level_commas_only():
  text = r'''a(x=1,y="u,\"v(,"), b([1,2]),c'''
  assert specs.split(text) == [r'''a(x=1,y="u,\"v(,")''', 'b([1,2])', 'c']
  assert specs.split('0.1,0.2') == ['0.1', '0.2']


@pytest.mark.parametrize('text, built', [
    ('ditto(lam=0.1)', ('ditto', 'M', 0.1, None, 5, {})),
    ('ditto(lam=1, seed=7, steps=3)', ('ditto', 'M', 1, None, 7, {'steps': 3})),
    ('ditto(lam=1, inner=ditto(lam=2))',
     ('ditto', 'M', 1, ('ditto', 'M', 2, None, 5, {}), 5, {})),
    ('shards(2)', ([0], 3, 2, 5)), ('shards(per_client=2)', ([0], 3, 2, 5)),
    ('alone', 'alone'), ('alone()', 'alone'),
    ('clip(1) | clip(2, "l1")', (('clip', 1, 'l2'), ('clip', 2, 'l1'))),
    ('clip([alone, {"a": alone()}])', None),
    ('apply(twice)', (4, None)), ('apply(twice, extra=alone)', (4, alone)),
    ('several(1, alone, name="x")', ((1, 'alone'), 'x'))])
def test_arguments_and_context_reach_the_builder(text, built):
  if built is None:
    with pytest.raises(ValueError, match=r'algorithm=clip\(bound=\[alone\(\)'):
      build(text)  # A list is no bound: a TypeError, told with the signature.
    return
  assert build(text) == built
  canonical = builders.text_of(builders.bind(text, SPACE))
  assert build(canonical) == built
  assert builders.text_of(builders.bind(canonical, SPACE)) == canonical


def test_spellings_have_one_canonical_text():
  texts = {builders.text_of(builders.bind(text, SPACE)) for text in (
      'ditto(steps=2, lam=1e-1)', 'ditto(lam=0.1, steps=2)',
      'ditto( lam=.1,steps = 2)')}
  assert texts == {'ditto(lam=0.1, steps=2)'}
  assert builders.text_of(builders.bind('clip(2)', SPACE)) == 'clip(bound=2)'


@pytest.mark.parametrize('text, message', [
    ('dito(lam=1)', "must be one of alone, .*Did you mean 'ditto'"),
    ('twice', 'must be one of'),  # Only an argument may name it.
    ('ditto(lamb=1)', r"no argument 'lamb'. Did you mean 'lam'\? It is "
                      r'ditto\(lam, inner=None, steps=..., decay=...\)'),
    ('ditto', 'ditto needs lam'), ('ditto(1)', 'takes 0 arguments'),
    ('shards(2, 3)', r'takes 1 argument .* shards\(per_client\)'),
    ('shards(2, per_client=2)', 'is given per_client twice'),
    ('clip(0)', r'algorithm=clip\(bound=0\): bound must be positive'),
    ('ditto(lam=clipp(1))',
     r'^algorithm=ditto\(lam=clipp\(1\)\): lam must be a number, got .* clipp'),
    ('ditto(lam=1, inner=clipp(1))', "inner must be one of .*'clip'"),
    ('chosen(sgdd(0.1))',
     r"\): optimizer must be one of chosen, sgd, or .* Did you mean 'sgd'\?$"),
    ('alone | ditto', r'^algorithm=alone \| ditto: ditto: ditto needs lam'),
    ('ditto(lam=1) | dito(2)',
     r'^algorithm=ditto\(lam=1\) \| dito\(2\): algorithm must be one of')])
def test_what_does_not_fit_is_told_with_what_would(text, message):
  with pytest.raises(ValueError, match=message):
    build(text)


@pytest.mark.parametrize('text, wrong', [
    ('kinds(clip(1))', 'optimizers must be an optax optimizer, .*, got a '),
    ('kinds(count=True)', 'count must be a whole number, got True'),
    ('kinds(count=1.5)', 'count must be a whole number, got 1.5'),
    ('kinds(flag=1)', 'flag must be True or False, got 1'),
    ('kinds(text=3)', 'text must be text or None, got 3'),
    ('kinds(rate="x")', "rate must be a number or a function, got 'x'"),
    ('kinds(sgd(0.1, momentum=True))', 'a number or None, got True'),
    ('kinds(rate=True)', 'rate must be .*, got True'),
    ('kinds(rate=alone())', "rate must be .*, got 'alone'"),
    ('kinds(loss=twice)', 'a function of 2 arguments, like max_of, got twice'),
    ('kinds(sgd(0.1, momentum="x"))', "momentum must be .*, got 'x'"),
    ('ditto(lam=None)', 'lam must be a number, got None'),
    ('broken', r"broken: KeyError: 'of its.* own.'\.$"),
    ('broken("zero")', r'ZeroDivisionError: of its own\.$'),
    ('shards(2, labels=3)', 'labels must not be given here, .* field data')])
def test_arguments_of_another_kind_and_broken_builders(text, wrong):
  with pytest.raises(ValueError, match=f'^algorithm=.*{wrong}'):
    build(text)


def test_arguments_of_the_right_kind():
  built = build('kinds(sgd(0.1), count=2, flag=True, text="x", loss=max_of)')
  assert built[1:] == (2, True, 'x', 0.1, max_of)
  assert build('kinds(rate=twice)')[4] is twice


def test_no_chain_where_there_can_be_none():
  space = namespaces.Namespace('model', SPACE.builders)
  with pytest.raises(ValueError, match='model must name one thing'):
    builders.bind('alone | alone', space)


def test_bare_names_in_a_field_of_functions():
  space = namespaces.Namespace('loss', {'twice': twice, 'alone': alone},
                               functions=True)
  assert build('twice', space) is twice and build('alone()', space) == 'alone'
  assert builders.text_of(builders.bind('alone()', space)) == 'alone()'


def test_dotted_paths(tmp_path, monkeypatch):
  (tmp_path / 'my_parts.py').write_text(
      'class Group:\n  @staticmethod\n  def make(model, *, beta):\n'
      '    return model, beta\nNUMBER = 3\n')
  (tmp_path / 'my_broken.py').write_text('import not_installed_anywhere\n')
  monkeypatch.syspath_prepend(tmp_path)
  assert build('my_parts.Group.make(beta=2)') == ('M', 2)
  for text, message in (
      ('my_parts.Group.mak', "has no 'mak'. Did you mean 'make'"),
      ('my_part.make', "there is no module 'my_part'"),
      ('my_parts.NUMBER', 'must be a function, got a int'),
      ('my_broken.make', 'needs the module not_installed_anywhere')):
    with pytest.raises(ValueError, match=message):
      build(text)
  del sys.modules['my_parts']


def test_context_that_is_taken():
  taken = lambda text: builders.taken(builders.bind(text, SPACE))
  assert taken('ditto(lam=1)') == {'model', 'seed'}
  assert taken('ditto(lam=1, seed=3)') == {'model'}
  assert taken('several([shards(1)])') == {'labels', 'num_clients', 'seed'}


def test_numbers_that_differ():
  bind = lambda text: builders.bind(text, SPACE)
  first = bind('ditto(lam=1, steps=2, inner=clip(3) | clip(4), decay=0.5)')
  assert variants.numbers(first) == {
      'lam': 1, 'inner.0.bound': 3, 'inner.1.bound': 4, 'decay': 0.5}
  other = bind('ditto(decay=0.5, lam=2, steps=2, inner=clip(3)|clip(7))')
  assert variants.differing([first, other]) == ['lam', 'inner.1.bound']
  assert variants.skeleton(first) == (
      'ditto(lam=_, inner=clip(bound=_) | clip(bound=_), steps=2, decay=_)')
  with pytest.raises(ValueError, match='a program each'):
    variants.differing([first, bind('ditto(lam=1, steps=3)')])
  changed = variants.replaced(first, {'lam': 9, 'inner.1.bound': 8})
  assert builders.text_of(changed) == (
      'ditto(lam=9, inner=clip(bound=3) | clip(bound=8), steps=2, decay=0.5)')
  assert builders.build(changed, CONTEXT)[2] == 9


def test_a_default_is_one_of_the_numbers_that_differ():
  both = [builders.bind(text, SPACE) for text in (
      'delayed(lr=0.5)', 'delayed(scale=2.0, lr=0.5)')]
  assert variants.differing(both) == ['scale']
  assert variants.numbers(both[0]) == {'lr': 0.5, 'scale': 1.0}
  assert builders.build(
      variants.replaced(both[0], {'scale': 3}), {}) == (0.5, 3)
