"""Every system of the SPD paper over seeds, and what became of each run.

    python -m benchmarks.reproduce [--systems tms_5-2 tms_40-10] [--seeds 0 1] [--jobs 2] [--paper] [--table-only]

Runs lie in ``runs/reproduce/SYSTEM/seed_N`` and are made by ``python -m spd_lightning fit`` in processes of their own,
several at a time. Finished runs are not repeated and interrupted ones go on; the tables, the page and the pictures are
made from the run directories alone.
"""
