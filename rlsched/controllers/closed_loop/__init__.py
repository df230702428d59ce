"""Closed-loop learning rates: from telemetry, over the natural mixture of the data."""
