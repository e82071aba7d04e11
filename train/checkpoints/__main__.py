"""``python -m train.checkpoints``: the checkpoints of a run."""

import sys

from train.checkpoints.command import main

if __name__ == "__main__":
    sys.exit(main())
