"""What stays answered, on every deployment that tells of changes and on both faces."""
