"""Entry module of the pytest plugin: it only wires."""
