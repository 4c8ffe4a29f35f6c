"""What noise means in epsilon and delta; dp-accounting does the mathematics.

On the host. The noise itself is `aggregation.private_mean`'s.
"""

from fedjax_sim.core.argument_kinds import check_public
from fedjax_sim.privacy.accounting import Guarantee, guarantee
from fedjax_sim.privacy.calibration import noise_multiplier

__all__ = ['Guarantee', 'guarantee', 'noise_multiplier']

check_public(globals())
