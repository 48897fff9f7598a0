"""One small trainer for backbones, heads and losses: seeded by step, resumed exactly."""
