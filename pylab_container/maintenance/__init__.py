"""Care of a data root: check, fsck, recovery, usage, pruning. Periphery."""
