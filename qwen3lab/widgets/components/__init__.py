"""Parts that explorers are built from: canvas, plot, transcript, text, table, worker."""
