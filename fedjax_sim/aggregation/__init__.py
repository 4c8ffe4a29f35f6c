"""From the clients' messages to one aggregate: transforms, then a reducer."""

from fedjax_sim.aggregation import staleness
from fedjax_sim.aggregation.buffered import Stage, buffered
from fedjax_sim.aggregation.cast import cast
from fedjax_sim.aggregation.chain import aggregator, chain
from fedjax_sim.aggregation.clip import adaptive_clip, clip
from fedjax_sim.aggregation.downlink import downlink
from fedjax_sim.aggregation.drive_signs import drive
from fedjax_sim.aggregation.eden import eden
from fedjax_sim.aggregation.ef21 import ef21
from fedjax_sim.aggregation.error_feedback import error_feedback
from fedjax_sim.aggregation.means import fixed_mean, weighted_mean
from fedjax_sim.aggregation.on import on
from fedjax_sim.aggregation.private_mean import (
    AdaptiveNorm,
    adaptive,
    private_mean,
)
from fedjax_sim.aggregation.qsgd import qsgd
from fedjax_sim.aggregation.quantize import quantize
from fedjax_sim.aggregation.random_k import random_k
from fedjax_sim.aggregation.robust import coordinate_median, median
from fedjax_sim.aggregation.rotate import rotate
from fedjax_sim.aggregation.secure import masked_mean
from fedjax_sim.aggregation.sign import majority_vote, sign_sgd
from fedjax_sim.aggregation.subsample import subsample
from fedjax_sim.aggregation.terngrad import terngrad
from fedjax_sim.aggregation.top_k import top_k
from fedjax_sim.aggregation.transform import identity, transform
from fedjax_sim.aggregation.trimmed import trimmed_mean

__all__ = [
    'AdaptiveNorm',
    'Stage',
    'adaptive',
    'adaptive_clip',
    'aggregator',
    'buffered',
    'cast',
    'chain',
    'clip',
    'coordinate_median',
    'downlink',
    'drive',
    'eden',
    'ef21',
    'error_feedback',
    'fixed_mean',
    'identity',
    'majority_vote',
    'masked_mean',
    'median',
    'on',
    'private_mean',
    'qsgd',
    'quantize',
    'random_k',
    'rotate',
    'sign_sgd',
    'staleness',
    'subsample',
    'terngrad',
    'top_k',
    'transform',
    'trimmed_mean',
    'weighted_mean',
]
