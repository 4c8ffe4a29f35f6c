"""What of a model a client trains in a round, and sends."""

from fedjax_sim.clients.restrictions.federated_dropout import federated_dropout
from fedjax_sim.clients.restrictions.low_rank import low_rank
from fedjax_sim.clients.restrictions.random_mask import random_mask
from fedjax_sim.clients.restrictions.restriction import (
    Restriction,
    Trained,
)

__all__ = [
    'Restriction',
    'Trained',
    'federated_dropout',
    'low_rank',
    'random_mask',
]
