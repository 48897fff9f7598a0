"""What the benchmarks compare with: formulas written down as they stand, by us, with no thought of speed."""
