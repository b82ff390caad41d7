"""What things cost, measured on the machine at hand. Each figure is of one run, and a ratio where a machine's speed
would decide it. Nothing here is a test: `./run bench` says what was measured."""
