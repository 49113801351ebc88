"""``python -m novelty_metric.cli``."""

import sys

from novelty_metric.cli import main

if __name__ == "__main__":
    sys.exit(main())
