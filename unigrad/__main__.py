"""`python -m unigrad`: the command line."""

import sys

from unigrad.cli import main

if __name__ == "__main__":
    sys.exit(main())
