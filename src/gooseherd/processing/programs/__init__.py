"""What runs as `python -m`, each in a process of its own, because it reads foreign bytes."""
