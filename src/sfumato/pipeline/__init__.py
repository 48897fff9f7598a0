"""From a file to a result on the same grid: preparation, windows, blending, and one case from end to end."""
