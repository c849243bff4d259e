"""One Protocol per dependency, by room, with what its users may assume.

Every adapter of a port passes the port's contract suite (tests/contract/).
"""
