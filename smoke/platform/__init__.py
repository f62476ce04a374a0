"""The platform under test: its services and answers, tokens and forgeries, budget invariants."""
