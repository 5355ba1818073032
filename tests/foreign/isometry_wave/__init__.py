"""A foreign app, as another laboratory would write it: a noisy sine wave fitted by a small network."""
