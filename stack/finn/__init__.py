"""Finn: the internal inference service between Freeside and the model provider."""
