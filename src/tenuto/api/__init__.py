"""The HTTP surface: it checks who calls and what is said, calls one use case, and writes its answer."""
