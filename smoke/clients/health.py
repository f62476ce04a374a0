"""Where each service says how it is."""

HEALTH_PATHS = {"freeside": "/health", "finn": "/health", "dixie": "/api/health"}
