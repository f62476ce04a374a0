"""Bounded ways to whatever answers the suite: in time and bytes, with nothing carried to another origin."""
