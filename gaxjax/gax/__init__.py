"""GAX: many images optimised at once in the slots of one compiled step."""
