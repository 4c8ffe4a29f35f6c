"""Fields that configs once had, and where what they said is written now.

An old field is refused with the text to write instead: a run must not go on
without what its config asks for.
"""

import ast
import dataclasses
import inspect
import re
from collections.abc import Mapping, Sequence
from typing import Any

import optax

from fedjax_sim.core import specs
from fedjax_sim.core.specs import Call


@dataclasses.dataclass(frozen=True)
class _Argument:
  """An argument of a spec.

  Attributes:
    field: the field that holds the spec.
    calls: builder -> name of the argument, and what else the builder needs,
      with the defaults of that time. The first is taken where the config names
      none of them.
  """

  field: str
  calls: Mapping[str, tuple[str, Mapping[str, Any]]]


def _argument(field: str, **calls: Any) -> _Argument:
  return _Argument(field, {
      name: value if isinstance(value, tuple) else (value, {})
      for name, value in calls.items()})


def _of_training(name: str) -> _Argument:
  """An argument of local training, which most algorithms take."""
  others = ('fedavg', 'scaffold', 'fednova', 'feddyn', 'ditto', 'apfl', 'ifca',
            'fedper', 'fedrep', 'fedbn', 'mime', 'mimelite', 'fedexp',
            'per_fedavg', 'pfedme', 'q_fedavg')
  fedprox = {} if name == 'mu' else {'mu': 0.1}
  plain = 'proximal' if name == 'mu' else name
  return _argument('algorithm', fedprox=(name, fedprox),
                   **dict.fromkeys(others, plain))


def _server(name: str) -> _Argument:
  return _argument('server_optimizer', fedadam=name, fedyogi=name,
                   fedadagrad=name)


_PERSONAL = {'personal': 'dense_2'}

_ARGUMENTS = {
    'dirichlet_alpha': _argument('partition', dirichlet='alpha'),
    'quantity_sigma': _argument('partition', quantity='sigma'),
    'shards_per_client': _argument('partition', shards='shards_per_client'),
    'min_client_size': _argument(
        'partition', dirichlet=('min_size', {'alpha': 0.5}),
        quantity=('min_size', {'sigma': 1.0})),
    'control_option': _argument('algorithm', scaffold='option'),
    'regularization': _argument('algorithm', ditto='lam', feddyn='alpha'),
    'moreau': _argument('algorithm', pfedme=('lam', {'personal_lr': 0.05})),
    'mixing': _argument('algorithm', apfl='alpha'),
    'fairness': _argument('algorithm', q_fedavg='q'),
    'clusters': _argument('algorithm', ifca='clusters'),
    'personal_params': _argument(
        'algorithm', fedper='personal', fedrep='personal'),
    'head_epochs': _argument('algorithm', fedrep=('head_epochs', _PERSONAL)),
    'steps_per_round': _argument('algorithm',
                                 centralized_sgd='steps_per_round'),
    'proximal': _of_training('mu'),
    'stragglers': _of_training('stragglers'),
    'server_tau': _server('tau'),
    'server_beta1': _server('beta1'),
    'server_beta2': _server('beta2'),
    'server_momentum': _argument('server_optimizer', fedavgm='momentum',
                                 sgd='momentum', rmsprop='momentum'),
}


def _momentum(value: Any, texts: Mapping[str, str]) -> tuple[str, str]:
  algorithm = _parsed('algorithm', texts)
  if isinstance(algorithm, Call) and algorithm.name == 'fednova':
    return 'algorithm', _with(algorithm, 'momentum', value)
  optimizer = _parsed('client_optimizer', texts)
  if isinstance(optimizer, specs.Chain):
    *before, last = optimizer.parts
    if not _has_momentum(last):
      return 'client_optimizer', specs.text_of(optimizer)
    last = specs.parse('client_optimizer', _with(last, 'momentum', value))
    return 'client_optimizer', specs.text_of(specs.Chain((*before, last)))
  if not _has_momentum(optimizer):
    return 'client_optimizer', specs.text_of(optimizer)  # It did nothing.
  return 'client_optimizer', _with(optimizer, 'momentum', value)


def _has_momentum(optimizer: Call) -> bool:
  builder = getattr(optax, optimizer.name, None)
  return builder is None or 'momentum' in inspect.signature(builder).parameters


def _before(part: str):
  return lambda value, texts: (
      'client_optimizer',
      f'{part}({value!r}) | {texts.get("client_optimizer", "sgd")}')


def _personal_lr(value: Any, texts: Mapping[str, str]) -> tuple[str, str]:
  algorithm = _parsed('algorithm', texts)
  if algorithm.name in ('per_fedavg', 'pfedme'):
    return 'algorithm', _with(algorithm, 'personal_lr', value)
  if algorithm.name == 'finetune':
    if len(algorithm.args) < 2:
      return 'algorithm', specs.text_of(algorithm)
    rest = specs.text_of(algorithm.args[0])
    epochs = algorithm.args[1].kwargs.get('epochs', 1)
    return 'algorithm', _finetune(rest, epochs, value)
  return 'algorithm', f'per_fedavg(personal_lr={value!r})'


def _finetune_epochs(value: Any, texts: Mapping[str, str]) -> tuple[str, str]:
  algorithm = _parsed('algorithm', texts)
  if isinstance(algorithm, Call) and algorithm.name == 'finetune' and (
      len(algorithm.args) == 2):
    of_whom, train = algorithm.args
    train = specs.parse('algorithm', _with(train, 'epochs', value))
    return 'algorithm', specs.text_of(
        dataclasses.replace(algorithm, args=(of_whom, train)))
  return 'algorithm', _finetune(texts.get('algorithm', 'fedavg'), value, 0.05)


def _finetune(algorithm: str, epochs: float, rate: float) -> str:
  return (f'finetune({algorithm}, local_training(sgd({rate!r}), '
          f'epochs={epochs!r}))')


_OTHERS = {
    'pixels': lambda value, texts: (
        'model', _with(_parsed('model', texts), 'preprocess', Call(
            {'zero_to_one': 'as_float'}.get(value, value), bare=True))),
    'client_momentum': _momentum,
    'client_weight_decay': _before('add_decayed_weights'),
    'client_clip_norm': _before('clip_by_global_norm'),
    'finetune_epochs': _finetune_epochs,
    'personal_lr': _personal_lr,
}

NAMES = frozenset(_ARGUMENTS) | frozenset(_OTHERS)


def new_texts(
    old: Mapping[str, Any], texts: Mapping[str, str]
) -> dict[str, str]:
  """What to write instead of old fields.

  Args:
    old: fields of `NAMES`, and their values.
    texts: the specs that the config has, by field.

  Returns:
    Field -> text.
  """
  texts, changed = dict(texts), {}
  # In the order above: what makes a spec of its own comes last.
  for name in (n for n in (*_ARGUMENTS, *_OTHERS) if n in old):
    value = old[name]
    if name in _OTHERS:
      field, text = _OTHERS[name](value, texts)
    else:
      field, text = _ARGUMENTS[name].field, _in_call(
          _ARGUMENTS[name], value, texts)
    texts[field] = changed[field] = text
  return changed


def refuse(old: Mapping[str, Any], texts: Mapping[str, Any]) -> None:
  """ValueError for old fields, if there are any; see `new_texts`."""
  if not old:
    return
  said = ', '.join(f'{name}={value!r}' for name, value in old.items())
  new = {field: text for field, text in new_texts(old, texts).items()
         if specs.parse(field, text) != _parsed(field, texts)}
  if not new:
    raise ValueError(f'{said}: no such field any more. It did nothing in this '
                     'config: leave it out.')
  flags = ' '.join(f'--config.{f}={quoted(text)}' for f, text in new.items())
  lines = '; '.join(f'config.{f} = {text!r}' for f, text in new.items())
  raise ValueError(
      f'{said}: no such field any more; it is a part of {" and ".join(new)}. '
      f'Write {flags}, or in a config file {lines}.')


def from_flags(argv: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
  """The old fields among flags such as --config.field=value, and the rest."""
  old, rest, following = {}, [], iter(argv)
  for argument in following:
    flag = re.fullmatch(r'--?config\.(\w+)(?:=(.*))?', argument, re.DOTALL)
    if flag is None or flag[1] not in NAMES:
      rest.append(argument)
      continue
    text = next(following, '') if flag[2] is None else flag[2]
    old[flag[1]] = value_of(text)
  return old, rest


def value_of(text: str) -> Any:
  """The value that a flag's text stands for."""
  try:
    return ast.literal_eval(text)
  except (ValueError, SyntaxError):
    return text


def _in_call(
    argument: _Argument, value: Any, texts: Mapping[str, str]
) -> str:
  """The text of the spec with the argument in it."""
  spec = _parsed(argument.field, texts)
  if isinstance(spec, Call) and spec.name == 'finetune' and spec.args:
    inner = _in_call(argument, value, {
        argument.field: specs.text_of(spec.args[0])})
    return specs.text_of(dataclasses.replace(
        spec, args=(specs.parse(argument.field, inner), *spec.args[1:])))
  if isinstance(spec, Call) and spec.name in argument.calls:
    name, needed = argument.calls[spec.name]
  elif 'fedavg' in argument.calls:  # The algorithm did not look at it.
    return specs.text_of(spec)
  else:
    spec_name, (name, needed) = next(iter(argument.calls.items()))
    spec = Call(spec_name)
  if not spec.args:
    missing = {k: x for k, x in needed.items() if k not in spec.kwargs}
    spec = dataclasses.replace(spec, kwargs=missing | spec.kwargs)
  return _with(spec, name, value)


def _parsed(field: str, texts: Mapping[str, str]) -> specs.Spec:
  return specs.parse(field, texts[field])


def _with(call: Call, name: str, value: Any) -> str:
  return specs.text_of(dataclasses.replace(
      call, kwargs=call.kwargs | {name: value}, bare=False))


def quoted(text: str) -> str:
  """For a shell."""
  return f'"{text}"' if "'" in text else f"'{text}'"
