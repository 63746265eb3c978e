"""From the user's data to tokenised rows that are split without leaks."""
