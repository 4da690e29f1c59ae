"""One module a peer. Each exports `PEER`, the class `bench.harness` drives, and runs in its own environment."""
