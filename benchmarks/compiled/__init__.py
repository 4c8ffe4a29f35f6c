"""The round compiled ahead of time, for accelerators that aren't there."""
