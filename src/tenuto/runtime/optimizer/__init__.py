"""Optimizers: asking them within their bounds, comparing what runs took before and after, and looking by itself."""
