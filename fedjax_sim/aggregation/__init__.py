"""From the clients' messages to one aggregate: transforms, then a reducer."""

from fedjax_sim.aggregation.clipping import clip
from fedjax_sim.aggregation.compose import chain, identity
from fedjax_sim.aggregation.means import weighted_mean

__all__ = ['chain', 'clip', 'identity', 'weighted_mean']
