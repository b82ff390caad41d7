"""The Celery worker: tasks by name, thin over the services. Nothing imports this but itself."""
