"""Work beside the run, such as measuring heads; each view has at most one part."""
