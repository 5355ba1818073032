"""`python -m isometry` is the command `isometry`; torchrun starts it this way."""

from isometry.cli import run

if __name__ == "__main__":
    run()
