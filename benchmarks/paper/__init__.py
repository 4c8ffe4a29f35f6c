"""The tables and figures of McMahan et al. 2016, computed and compared."""
