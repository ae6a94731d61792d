"""The parts of `EmbeddingTable`: reading files, wide to long, joins, positions, and what a table may not hold."""
