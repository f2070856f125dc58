"""Building blocks of the explorers: canvas, plot, transcript, text, table, worker."""
