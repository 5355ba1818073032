"""Proteins: secondary structure, accessibility, disorder and contacts from a single sequence, by recurrent networks."""
