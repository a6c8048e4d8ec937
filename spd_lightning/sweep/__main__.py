"""``python -m spd_lightning.sweep --config tms.yaml --over seed_everything=0,1,2``."""

import sys

from spd_lightning.shadowing import leave_if_hidden

if __name__ == "__main__":
    leave_if_hidden()  # before the import that would fail

    from spd_lightning.sweep.command import main

    sys.exit(main())
