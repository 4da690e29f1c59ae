"""Changes to a graph: what a patch may say, what it makes of a definition, and what it may never weaken."""
