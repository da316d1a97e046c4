"""Measurements that developers run from the repository's root (`python -m benchmarks.footage`); outside the wheel."""
