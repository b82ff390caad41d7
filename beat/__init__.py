"""Celery Beat: what has to happen in time. It only sends; plain Beat with the schedule in code."""
