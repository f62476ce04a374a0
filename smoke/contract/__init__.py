"""The platform's contract as a model: what the suite's checks are derived from. Pure; it reaches nothing."""
