"""``python -m spd_lightning fit --config tms.yaml``."""

import sys

from spd_lightning.cli.quick import answer_at_once

if __name__ == "__main__":
    answer_at_once(sys.argv[1:])  # before Lightning is imported
    from spd_lightning.cli.command import main

    main()
