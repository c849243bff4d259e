"""What gooseherd is about, in plain data and pure functions: no I/O, no clock, no vendor."""
