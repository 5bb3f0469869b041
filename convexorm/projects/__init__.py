"""A Convex project on disk: what is written into it, and what is left alone. Nothing else imports this."""
