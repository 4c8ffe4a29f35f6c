"""Devices and networks: profiles, eligibility, deadlines, simulated time.

NumPy, on the host. Who takes part in a round, how much it gets done and whether
its message arrives is decided here, ahead of the round.
"""

from fedjax_sim.core.argument_kinds import check_public
from fedjax_sim.systems.availability import Availability
from fedjax_sim.systems.device_tables import table
from fedjax_sim.systems.eligibility import (
    all_of,
    day_and_night,
    nights,
    sporadic,
)
from fedjax_sim.systems.populations import (
    identical,
    lognormal,
    mixture,
    phones,
)
from fedjax_sim.systems.profiles import Failures, Population, failures
from fedjax_sim.systems.report_window import (
    Asynchrony,
    Reporting,
    asynchronous,
    window,
)

__all__ = [
  'Asynchrony',
  'Availability',
  'Failures',
  'Population',
  'Reporting',
  'all_of',
  'asynchronous',
  'day_and_night',
  'failures',
  'identical',
  'lognormal',
  'mixture',
  'nights',
  'phones',
  'sporadic',
  'table',
  'window',
]

check_public(globals())
