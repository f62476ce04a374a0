"""Environment profiles: what they may hold, what they offer, and how their secrets are resolved."""
