"""The names that contract section 4 gives to things in AWS."""

from dataclasses import dataclass

SERVICES = ("api", "worker", "finn", "dixie", "pgbouncer")
#: Which service's image a build runs; the worker has no health route that could name its build.
BUILDS = {"freeside": "api", "finn": "finn", "dixie": "dixie"}
#: What Cloud Map resolves.
HOSTS = ("freeside", "finn", "dixie", "pgbouncer")
DASHBOARDS = ("overview", "service-health")
#: The one-shot task definitions, and the service whose deployment each one comes before.
MIGRATIONS = {"freeside-migration": "api", "dixie-migration": "dixie"}


@dataclass(frozen=True, slots=True)
class Names:
    """Full names, made from the profile's prefix."""

    prefix: str

    @property
    def cluster(self) -> str:
        """The ECS cluster."""
        return f"{self.prefix}-cluster"

    @property
    def namespace(self) -> str:
        """The namespace in Cloud Map."""
        return f"{self.prefix}.local"

    @property
    def topic(self) -> str:
        """The topic that alarms notify."""
        return f"{self.prefix}-alerts"

    @property
    def database(self) -> str:
        """The database instance."""
        return f"{self.prefix}-postgres"

    @property
    def logs(self) -> str:
        """What the names of all log groups begin with."""
        return f"/ecs/{self.prefix}/"

    @property
    def app_metrics(self) -> str:
        """The namespace of the platform's own metrics."""
        return f"{self.prefix}/AppMetrics"

    def full(self, short: str) -> str:
        """The full name of a service, family, dashboard or alarm."""
        return f"{self.prefix}-{short}"

    def short(self, full: str) -> str:
        """A full name without the prefix; a foreign name as it is."""
        return full.removeprefix(f"{self.prefix}-")
