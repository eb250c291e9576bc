"""What XLA makes of the engines' programs for a GPU that is only described: compiled, never run."""
