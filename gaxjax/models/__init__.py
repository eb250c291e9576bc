"""The classifiers by name, their checkpoint, and the one form in which everything uses them."""
