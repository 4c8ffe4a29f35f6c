"""Submodels of the project's models compute what the whole ones do."""

import jax
import numpy as np
import pytest

from fedjax_sim import models, restrictions
from fedjax_sim.clients.restrictions import submodels
from fedjax_sim.core.types import Message


@pytest.mark.parametrize('model, shape, drawn', [
    (models.mnist_2nn(), (28, 28), True),
    pytest.param(
        models.mnist_cnn(), (28, 28), True, marks=pytest.mark.slow),
    # Its normalization sees neighbouring channels, so the first ones stay.
    pytest.param(
        models.cifar_cnn(), (32, 32, 3), False, marks=pytest.mark.slow),
], ids=['2nn', 'cnn', 'cifar'])
def test_a_submodel_is_the_model_without_the_other_units(model, shape, drawn):
  """With zeros in the place of the others both give the same outputs."""
  x = np.random.default_rng(0).integers(0, 256, (2, *shape), np.uint8)
  shapes = jax.eval_shape(model.init, jax.random.key(0), x)
  leaves, treedef = jax.tree.flatten(shapes)
  # Biases too are not zero.
  variables = treedef.unflatten(
      0.1 * jax.random.normal(jax.random.fold_in(jax.random.key(1), i), s.shape)
      for i, s in enumerate(leaves))
  cut = restrictions.federated_dropout(0.25).submodel(model)
  units = submodels.draw(cut, np.uint32(5)) if drawn else {
      layer: np.arange(n) for layer, n in cut.kept.items()}
  small = submodels.take_out(cut, variables, units)
  assert all(x.size < y.size for x, y in zip(
      jax.tree.leaves(small)[:-2], jax.tree.leaves(variables), strict=False))

  @jax.jit
  def outputs(small):
    alone = submodels.put_back(
        cut, Message(small, np.float32(1)), units).update
    return [model.run(variables, x, key=jax.random.key(0), train=False,
                      mask=None)[0]
            for model, variables in ((cut.model, small), (model, alone))]

  got, want = outputs(small)
  assert np.abs(want).max() > 1e-2
  np.testing.assert_allclose(
      got, want, rtol=1e-4, atol=1e-5 * float(np.abs(want).max()))
