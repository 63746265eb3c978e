"""The largest numbers that an option takes: beyond, a slip of the keyboard is likelier than a run."""

MOST = 100_000  # epochs, sequences per pass, passes per step
MOST_STEPS = 100_000_000
LONGEST = 2_000_000  # tokens of a sequence
