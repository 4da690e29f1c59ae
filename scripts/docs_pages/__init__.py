"""One module a generated page; each has a function that returns the page's text."""
