"""The third party behind Finn: a deterministic model provider."""
