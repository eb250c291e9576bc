"""Tables of stored rows; nothing is measured here."""
