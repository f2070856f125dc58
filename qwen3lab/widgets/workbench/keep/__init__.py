"""What is kept of a workbench: notes, views in files, code, tables and pages."""
