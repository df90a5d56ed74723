"""What watches a training: it warns, writes records, and scores."""
