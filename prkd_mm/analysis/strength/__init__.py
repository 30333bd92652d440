"""How strongly each loss constrains the student."""
