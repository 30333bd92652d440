"""How far apart the last checkpoints are, and what averaging them gains."""
