"""Laptop mode: the whole stack as local processes. Only the tests and ./run may start it; headrace never imports it."""
