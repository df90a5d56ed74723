"""Use of a trained model: search a folder of images for the person in a query image."""
