"""The contestants, one file for each way of doing the work."""
