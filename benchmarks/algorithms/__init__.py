"""All algorithms on one heterogeneous task; see __main__.py."""
