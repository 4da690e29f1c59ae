"""How programs define workflows: the app, the builder and the functions they use."""
