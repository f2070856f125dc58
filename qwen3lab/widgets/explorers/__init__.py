"""What the views of the workbench show, as pure functions and states; and the nursery."""
