"""How values are written as text: addresses, sizes, times, globs, JSON. Pure, core."""
