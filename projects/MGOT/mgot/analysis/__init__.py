"""What is looked at after a run: its records, pictures, report, comparisons, ablation grids."""
