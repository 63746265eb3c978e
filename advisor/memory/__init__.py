"""The memory of the planned run: what methods need, what fits a card, and what would make the rest fit."""
