"""The workflow engine: who may work on what, following it to its end, cleaning up after the dead."""
