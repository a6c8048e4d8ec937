"""Subcommands of ``python -m spd_lightning.analysis``: each is a module with ``add_to`` and ``run``."""
