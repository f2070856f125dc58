"""Evaluation of the embedded models: accuracy, heads, experts, targets, model card."""
