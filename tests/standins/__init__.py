"""Stand-ins: checkpoints of a published model's shape and files, small enough for tests."""
