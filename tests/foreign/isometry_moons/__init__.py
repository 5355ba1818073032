"""A foreign app, as another laboratory would write it: two noisy moons told apart by a small network."""
