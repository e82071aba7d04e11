"""``python -m train.evaluate``."""

from __future__ import annotations

import sys

from train.evaluate.command import main

if __name__ == "__main__":
    sys.exit(main())
