"""What can be measured of runs, made of their committed records in one place."""
