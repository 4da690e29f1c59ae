"""Programs for developers: pages generated from the code, pictures of terminals."""
