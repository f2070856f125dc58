"""The workbench: one run and every view of it, on one screen."""
