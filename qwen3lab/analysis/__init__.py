"""Analyses: tensors or a recording in, a frozen result out. One file per subject."""
