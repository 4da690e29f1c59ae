"""What adapters must prove; needs pytest, and hypothesis for the machines. Nothing outside `testing` imports it."""
