"""Freeside: the public API and its worker. It verifies, reserves, calls Finn and charges exactly once."""
