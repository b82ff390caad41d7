"""The pure part: templates, jobs, operations, the status function, rendering.

No I/O, no framework, no settings, no logging.
"""
