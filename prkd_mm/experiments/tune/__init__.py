"""Search for the settings of a method on held-out training images."""
