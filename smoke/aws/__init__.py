"""What AWS says of the platform: readings of its APIs, and decisions about them that call nothing."""
