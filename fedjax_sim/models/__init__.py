"""Models: adapters for flax modules and plain functions, and our own."""

from fedjax_sim.models import declared, losses, output_check
from fedjax_sim.models import named_metrics as metrics
from fedjax_sim.models.adapters import (
    as_float,
    centered,
    from_functions,
    standardized,
    with_loss,
)
from fedjax_sim.models.augment import cifar_crops
from fedjax_sim.models.cnn import cifar_cnn, mnist_cnn
from fedjax_sim.models.convolution import conv_general_dilated
from fedjax_sim.models.dense import course_mlp, logistic_regression, mnist_2nn
from fedjax_sim.models.hidden import hidden_layers
from fedjax_sim.models.language import shakespeare_lstm, word_lstm
from fedjax_sim.models.linen import from_linen
from fedjax_sim.models.losses import (
    LOSSES,
    binary_cross_entropy,
    cross_entropy,
    huber,
    mae,
    mse,
    multilabel_cross_entropy,
    nll_of_softmax,
    poisson,
    token_cross_entropy,
)
from fedjax_sim.models.named_metrics import (
    METRICS,
    accuracy,
    auc,
    f1,
    r2,
    rmse,
    top_k,
)
from fedjax_sim.models.nnx import from_nnx
from fedjax_sim.models.normalization import local_response_norm
from fedjax_sim.models.output_check import check_outputs
from fedjax_sim.models.pooling import avg_pool, max_pool
from fedjax_sim.models.recurrent import lstm

__all__ = [
    'LOSSES',
    'METRICS',
    'accuracy',
    'as_float',
    'auc',
    'avg_pool',
    'binary_cross_entropy',
    'centered',
    'check_outputs',
    'cifar_cnn',
    'cifar_crops',
    'conv_general_dilated',
    'course_mlp',
    'cross_entropy',
    'declared',
    'f1',
    'from_functions',
    'from_linen',
    'from_nnx',
    'hidden_layers',
    'huber',
    'local_response_norm',
    'logistic_regression',
    'losses',
    'lstm',
    'mae',
    'max_pool',
    'metrics',
    'mnist_2nn',
    'mnist_cnn',
    'mse',
    'multilabel_cross_entropy',
    'nll_of_softmax',
    'output_check',
    'poisson',
    'r2',
    'rmse',
    'shakespeare_lstm',
    'standardized',
    'token_cross_entropy',
    'top_k',
    'with_loss',
    'word_lstm',
]
