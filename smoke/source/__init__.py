"""What a checkout of the platform's repository says: services, pipeline, ways back, traces of an old home."""
