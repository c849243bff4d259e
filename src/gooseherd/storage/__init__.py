"""Where artifacts live: back ends of the CacheBackend port, all held to one contract suite."""
