"""Benchmarks: what is measured, how, and the dated results. Not part of the package."""
