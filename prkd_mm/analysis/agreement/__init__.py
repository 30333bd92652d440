"""What a student shares with its teacher: predictions, calibration, class correlations."""
