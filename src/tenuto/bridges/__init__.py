"""What lets programs written for other frameworks run on Tenuto. Each module needs an extra of its own."""
