"""The loss around a trained student, and how sharp its minimum is."""
