"""Studies that train, rotate or compare many runs; each is a program, `python -m experiments.NAME`."""
