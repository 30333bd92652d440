"""Export a trained student, and predict with it."""
