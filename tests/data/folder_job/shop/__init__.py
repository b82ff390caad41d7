"""A module of the job."""
