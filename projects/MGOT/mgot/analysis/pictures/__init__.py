"""Pictures of a run, drawn from its records: one file a picture, figures in, PNG and SVG out."""
