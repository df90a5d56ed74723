"""Several runs side by side, from the files that they left: no model and no data set is opened."""
