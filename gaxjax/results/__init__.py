"""What a run leaves, as it is stored and as it is read back."""
