"""What `python -m binconv demo` runs. Nothing in the library imports this."""
