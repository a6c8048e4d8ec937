"""``python -m spd_lightning.sweep --config tms.yaml --over seed_everything=0,1,2``."""

import sys

from spd_lightning.sweep.command import main

if __name__ == "__main__":
    sys.exit(main())
