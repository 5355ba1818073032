"""Verbs of the command line beyond training and using a model; each module adds one."""
