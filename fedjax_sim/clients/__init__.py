"""What a client computes in a round, written for one client."""
