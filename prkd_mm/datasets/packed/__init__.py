"""Images packed into one file, fetched and augmented in whole batches."""
