"""Benchmarks: fastgrad against what one could use instead.

    python -m benchmarks                 measures all and writes docs/benchmarks.md and the tables
    python -m benchmarks --keep 2        the same, put together with the last two sessions
    python -m benchmarks --compare       measures all, and says which stated ratios hold
    python -m benchmarks --quick         fewer rounds of less, printed and not written
    python -m benchmarks --promises      what each part promises, with what is measured now
    python -m benchmarks.parallel        when a Dask cluster pays, for docs/distributed.md

``contests`` lists what is measured. A workload is data (``scalars``, ``nets``, ``irregular``,
``microgpt``, ``footprint``), an engine a file in ``peers`` which ``engines`` knows by name.
``session`` lets the engines of a contest take turns, ``data`` puts sessions together, ``report``
and ``chart`` show the result.
"""
