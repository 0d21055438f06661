"""What a response is worth: one scorer a file, pure."""
