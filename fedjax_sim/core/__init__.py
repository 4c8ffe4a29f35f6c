"""Types, keys, checks and loops that every other layer is built from."""
