"""The commands of `anyloom`, a file per family; each file lists its own in COMMANDS."""
