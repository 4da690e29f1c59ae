"""Ways out of the process for spans and metrics."""
