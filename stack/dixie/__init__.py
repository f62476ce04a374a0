"""Dixie: the reputation service."""
