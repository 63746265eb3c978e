"""From forecasts to one recommendation: comparable quality, costs, the frontier, the pick, and its reasons."""
