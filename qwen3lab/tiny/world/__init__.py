"""The embedded models' world: task families, their problems, texts and vocabulary."""
