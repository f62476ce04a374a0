"""Faults that the embedded platform can be told to have, so that the suite can be proved to notice them."""
