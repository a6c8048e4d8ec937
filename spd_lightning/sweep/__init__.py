"""Many runs of one config over a grid of values: ``python -m spd_lightning.sweep``.

A sweep is a folder of ordinary run directories, a plan that says which runs belong to it, one table and a few pictures.
"""

from spd_lightning.sweep.plan import SweepPlan

__all__ = ["SweepPlan"]
