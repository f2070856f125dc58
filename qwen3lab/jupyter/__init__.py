"""JupyterLab as this package wants it: its settings, and how it is opened."""
