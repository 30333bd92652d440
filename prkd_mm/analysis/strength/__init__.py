"""How strongly each loss constrains the student, and how that changes over a run."""
