"""Clients of the platform: typed answers, strict decoding, fresh credentials, the rules of money."""
