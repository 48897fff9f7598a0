"""Commands for promptable networks: predict, fit, order, filter, cascade."""
