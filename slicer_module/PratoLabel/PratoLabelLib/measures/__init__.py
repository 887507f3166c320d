"""What is computed from arrays and the server's words alone."""
