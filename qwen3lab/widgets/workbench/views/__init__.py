"""Views of the workbench: text, attention, routing, thinking, why, raw; one module each."""
