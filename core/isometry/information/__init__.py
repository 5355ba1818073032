"""Exact references of information theory: what any encoder or any channel can reach at best.

float64 numpy throughout; bits, unless said otherwise.
"""
