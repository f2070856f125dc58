"""How the embedded models are trained: recipes, batches, optimisers, the training loop."""
