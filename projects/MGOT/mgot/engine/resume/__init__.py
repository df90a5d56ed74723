"""What a run saves so that a later one can continue from it, for any cause of the stop."""
