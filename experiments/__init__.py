"""Experiments and the command line."""
