"""The explorers: one state, one panel and pure computations for each."""
