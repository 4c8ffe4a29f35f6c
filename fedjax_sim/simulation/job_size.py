"""How long a job takes, from its program alone: an order of magnitude.

It decides whether measuring is worth its time. Nothing is timed, so the same
job is always decided alike, and its bits repeat.
"""

import math

import numpy as np

# What a device does in a second (a CPU's core; an accelerator), and what a step
# takes beside: of clients' local training, as measured.
_FLOPS = {'cpu': 5e10}
_ACCELERATOR_FLOPS = 1e13
_STEP_SECONDS = {'cpu': 2e-5}
_ACCELERATOR_STEP_SECONDS = 5e-5


def seconds(simulation, rounds: int) -> float:
  """About how long the local training of all rounds takes."""
  platform = simulation.placement.platform
  step = (
      step_flops(simulation.program.traced.jaxpr.jaxpr)
      / _FLOPS.get(platform, _ACCELERATOR_FLOPS)
      + _STEP_SECONDS.get(platform, _ACCELERATOR_STEP_SECONDS))
  steps = simulation.num_blocks * float(np.mean(simulation.local_steps))
  return rounds * steps * step


def step_flops(program) -> float:
  """Floating-point operations of a local step of all lanes, in a program.

  The loop over a round's blocks is a loop in the loop over rounds; what is
  inside of it are clients at work. Loops that end when the data do count once,
  which leaves a step.
  """
  return _flops(program, depth=0)


def _flops(jaxpr, depth: int) -> float:
  """Of products and convolutions within at least two `while` loops."""
  total = 0.0
  for equation in jaxpr.eqns:
    name = equation.primitive.name
    inside = [_flops(inner, depth + (name == 'while'))
              for inner in _jaxprs_of(equation)]
    if name == 'cond':
      total += max(inside)
    elif name == 'scan':
      total += equation.params['length'] * sum(inside)
    else:
      total += sum(inside)
    if depth >= 2:
      total += _own_flops(equation)
  return total


def _own_flops(equation) -> float:
  if equation.primitive.name == 'dot_general':
    (contracted, _), _ = equation.params['dimension_numbers']
    shape = equation.invars[0].aval.shape
    each = math.prod(shape[i] for i in contracted)
  elif equation.primitive.name == 'conv_general_dilated':
    kernel = equation.invars[1].aval.shape
    features = equation.params['dimension_numbers'].rhs_spec[0]
    each = math.prod(kernel) / kernel[features]
  else:
    return 0.0
  return 2.0 * each * math.prod(equation.outvars[0].aval.shape)


def _jaxprs_of(equation) -> list:
  """Those among an equation's parameters."""
  found = []
  for value in equation.params.values():
    for one in value if isinstance(value, (tuple, list)) else (value,):
      one = getattr(one, 'jaxpr', one)
      if hasattr(one, 'eqns'):
        found.append(one)
  return found
