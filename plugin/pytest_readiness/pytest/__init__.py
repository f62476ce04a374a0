"""The pytest adapter: thin hooks that turn a run's reports into check results and its verdict into an exit status."""
