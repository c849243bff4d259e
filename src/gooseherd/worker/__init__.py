"""What runs inside a worker: the entrypoint, its Wool routines, the attempt process and its journal."""
