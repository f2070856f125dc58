"""The synthetic data of the embedded models: task families, problems, documents, tokenizer."""
