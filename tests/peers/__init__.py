"""qwen3lab beside four other libraries, over a table of config variants.

Other test folders mirror a package of qwen3lab. This one does not: it compares the whole forward
pass, from the files of a checkpoint to its logits, so no single package is under test. `variants`
is the table of checkpoints, `adapters` has the libraries behind one interface, and `versions` says
which versions were compared; pytest's header prints them.
"""
