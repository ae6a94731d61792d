"""Running cells of the grid: one cell, its cost, the store, many cells on all cores."""
