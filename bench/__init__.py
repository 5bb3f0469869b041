"""What operations cost: `python -m bench`."""
