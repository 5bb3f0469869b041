"""What queries answer, on every deployment and on both faces."""
