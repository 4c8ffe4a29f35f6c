"""What lies where: examples and clients' states, on devices and on disk."""
