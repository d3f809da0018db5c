"""Measures layers: `python -m binconv bench`, and what the benchmarks of a checkout share."""
