"""Teachers, live or stored, and the files of stored logits."""
