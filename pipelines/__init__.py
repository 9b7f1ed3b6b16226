"""End-to-end recipes and measurements; they use the public functions and commands of the two packages only."""
