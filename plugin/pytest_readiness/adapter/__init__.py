"""The pytest adapter: thin hooks that turn reports into check results, and a verdict into an exit status."""
