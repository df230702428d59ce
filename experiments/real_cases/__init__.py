"""Training runs as users write them, on data that no training of a policy has seen."""
