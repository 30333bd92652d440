"""From a run to a student that predicts elsewhere."""
