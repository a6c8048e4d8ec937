"""``python -m spd_lightning fit --config tms.yaml``."""

from spd_lightning.cli.command import main

if __name__ == "__main__":
    main()
