"""Workers of speed.py: one contender each, in an environment of its own."""
