"""What the heads on a frozen segmenter share: features in, fused; crops to fit on; scores to probabilities."""
