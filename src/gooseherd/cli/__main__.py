"""`python -m gooseherd.cli` is the same command, for an interpreter whose scripts are not on PATH."""

from gooseherd.cli import main

if __name__ == "__main__":
    main()
