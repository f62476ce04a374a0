"""Where each service says how it is, and how long it may think about it."""

HEALTH_PATHS = {"freeside": "/health", "finn": "/health", "dixie": "/api/health"}
#: Long enough to see how much later than the promised 2 s an answer comes; a service that hangs costs no more.
ASKED_FOR_S = 5.0
