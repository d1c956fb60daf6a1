"""Text formats of values: addresses, sizes, times, globs, JSON. Pure, core."""
