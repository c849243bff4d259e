"""A cloud on one machine: what AWS and Atlas give elsewhere, as real processes on loopback."""
