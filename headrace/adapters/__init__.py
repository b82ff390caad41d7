"""Adapters: one folder or module for each thing outside; each is the only importer of its driver."""
