"""rs05bench."""
