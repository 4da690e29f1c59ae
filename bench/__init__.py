"""Benchmarks of Tenuto beside its peers and the storage's own limit. Never imported by the product."""
