"""Isometry: a training engine whose signals neither vanish nor explode."""

__version__ = "0.1.0"
