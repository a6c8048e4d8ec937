"""Systems, sizes, settings and seeds as one table that says how often a recipe recovers what is known.

    python -m benchmarks.seeds hundred [--seeds 0-9] [--set trainer.max_steps=500] [--jobs 2] [--table-only] [--write]

Runs lie in ``runs/seeds/PLAN/ENTRY/RUN``. A few processes make them one after the other, each on one thread. Finished
runs are not repeated and interrupted ones go on; the table is written anew after every run, from the run directories.
"""
