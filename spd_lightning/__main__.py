"""``python -m spd_lightning fit --config tms.yaml``."""

from spd_lightning.shadowing import leave_if_hidden

if __name__ == "__main__":
    leave_if_hidden()  # before the import that would fail

    from spd_lightning.cli import main

    main()
