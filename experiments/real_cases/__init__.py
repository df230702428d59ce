"""Runs as users write them, on data and models that are not those of the families that policies train on."""
