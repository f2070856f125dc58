"""Training of the embedded models: recipes, batches, optimisers, training loop, log."""
