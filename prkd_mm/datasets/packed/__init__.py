"""Images packed into one file, taken and augmented by whole batches."""
