"""``python -m train.loop``."""

from __future__ import annotations

import sys

from train.loop.command import main

if __name__ == "__main__":
    sys.exit(main())
