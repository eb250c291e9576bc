"""A figure is one file: its data, its drawing and its caption."""
