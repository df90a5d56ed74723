"""What looks on while a run trains: it warns, writes down, and scores."""
