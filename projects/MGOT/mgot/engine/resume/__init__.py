"""What a run keeps so that a later one goes on from it, whatever stopped it."""
