"""`python -m isometry` is the command `isometry`; torchrun starts it this way."""

import sys

from isometry.cli import main

if __name__ == "__main__":
    sys.exit(main())
