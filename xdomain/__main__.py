"""``python -m xdomain``."""

import sys

from xdomain.commands.main import main

if __name__ == "__main__":
    sys.exit(main())
