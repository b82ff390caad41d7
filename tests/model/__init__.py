"""Schedules of everything that can happen to jobs at once, drawn, played over in-memory ports, and judged.

`flink.py` plays the operator and Flink, `faults.py` strikes calls, `world.py` holds the processes and plays steps,
`promises.py` says what must hold, `schedule.py` draws, shrinks and replays, `mutants.py` breaks the code on purpose.
"""
