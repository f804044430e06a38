"""Measurements of speed and memory: `python -m benchmarks.speed --images 2000`, in the project's root."""
