"""Models: adapters for flax modules and plain functions, and our own."""

from fedjax_sim.models.adapters import (
    as_float,
    centered,
    from_functions,
    standardized,
)
from fedjax_sim.models.augment import cifar_crops
from fedjax_sim.models.cnn import cifar_cnn, mnist_cnn
from fedjax_sim.models.convolution import conv_general_dilated
from fedjax_sim.models.dense import course_mlp, logistic_regression, mnist_2nn
from fedjax_sim.models.language import shakespeare_lstm, word_lstm
from fedjax_sim.models.linen import from_linen
from fedjax_sim.models.losses import (
    LOSSES,
    classification_metrics,
    cross_entropy,
    nll_of_softmax,
)
from fedjax_sim.models.nnx import from_nnx
from fedjax_sim.models.normalization import local_response_norm
from fedjax_sim.models.output_check import check_outputs
from fedjax_sim.models.pooling import avg_pool, max_pool
from fedjax_sim.models.recurrent import lstm

__all__ = [
    'LOSSES',
    'as_float',
    'centered',
    'avg_pool',
    'check_outputs',
    'cifar_cnn',
    'cifar_crops',
    'classification_metrics',
    'conv_general_dilated',
    'course_mlp',
    'cross_entropy',
    'from_functions',
    'from_linen',
    'from_nnx',
    'local_response_norm',
    'logistic_regression',
    'lstm',
    'max_pool',
    'mnist_2nn',
    'mnist_cnn',
    'nll_of_softmax',
    'shakespeare_lstm',
    'standardized',
    'word_lstm',
]
