"""Download, unpack and check the published data sets."""
