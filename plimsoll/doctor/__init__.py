"""What is wrong with a set-up, why it matters, and the line that puts it right."""
