"""The start of a run: its processes, its folder, and the checkpoint to resume from."""
