"""The command line: it speaks HTTP with a key, and knows no adapter."""
