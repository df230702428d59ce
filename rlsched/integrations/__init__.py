"""Training libraries that call `scheduler.step()` themselves: one module for each, imported on its own."""
