"""Datasets that list their units: TorchGeo datasets, tables, the embedded benchmark, download and verification."""
