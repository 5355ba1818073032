"""Signaling: what a cell's state knows of its environment, at what price, by a learned information bottleneck."""
