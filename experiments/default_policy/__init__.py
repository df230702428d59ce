"""The policy that comes with rlsched: how it was trained, and the evidence for it."""
