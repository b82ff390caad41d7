"""`./run faults`: drawn operations on several jobs while the real processes and servers below them are hit."""
