"""gooseherd: genomics files made readable by byte range, on demand."""

__version__ = "0.1.0"
