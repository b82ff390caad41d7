"""What runs inside the Flink image. Imports nothing of ours: only the standard library and, in users' jobs, pyflink."""
