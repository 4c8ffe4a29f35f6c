"""For users of FedJAX: its client functions and batches, on this simulator."""

from fedjax_sim.fedjax.for_each_client import for_each_client
from fedjax_sim.fedjax.from_steps import from_steps
from fedjax_sim.fedjax.host_batches import padded_batch, shuffle_repeat_batch

__all__ = [
    'for_each_client',
    'from_steps',
    'padded_batch',
    'shuffle_repeat_batch',
]
