"""Intervals over groups and over blocks, the correction of p-values, ranks: what `rs05bench.compare` is made of."""
