"""Several runs side by side, from the files that they wrote. No model and no data set is opened."""
