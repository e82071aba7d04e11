"""``python -m train.finetune --config FILE``: tune a model by a recipe."""

import sys

from train.finetune.command import main

if __name__ == "__main__":
    sys.exit(main())
