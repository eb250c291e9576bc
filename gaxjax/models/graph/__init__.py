"""Classifiers imported from torch: a graph of its operations as data, and what runs it in JAX."""
