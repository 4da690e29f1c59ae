"""One module a peer. Each exports `PEER`, which `bench.harness` drives in its own environment."""
