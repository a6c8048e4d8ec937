"""The older method beside SPD on the same targets, from the same callbacks: ``python -m benchmarks.compare``.

Runs what is missing of both (``runs/reproduce``, ``runs/sweeps``), measures how the cost of a step grows with the
number of components, and writes ``docs/comparison.md`` with its pictures.
"""
