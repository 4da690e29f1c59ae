"""What processes reach outside, and how they tell each other."""
