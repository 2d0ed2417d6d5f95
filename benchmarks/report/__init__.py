"""What the docs show of a run, made from its JSON alone."""
