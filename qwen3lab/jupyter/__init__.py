"""JupyterLab settings of the package, and the launcher."""
