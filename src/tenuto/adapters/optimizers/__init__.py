"""Optimizers as WebAssembly: the sandbox they run in (`sandbox`, which needs the extra `optimizers`)."""
