"""Speed and memory as ratios against a rival measured in the same run."""
