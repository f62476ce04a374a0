"""Where each service says how it is, and how long it may think about it."""

HEALTH_PATHS = {"freeside": "/health", "finn": "/health", "dixie": "/api/health"}
#: Long enough to see by how much an answer is later than the promised 2 s; a hanging service costs no more.
ASKED_FOR_S = 5.0
