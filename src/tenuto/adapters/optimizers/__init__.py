"""Optimizers as WebAssembly: those that ship (`builtin`), and the sandbox (`sandbox`), which needs the extra `optimizers`."""
