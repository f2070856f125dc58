"""What an embedded model can do: accuracy, heads, experts, targets, and its card."""
