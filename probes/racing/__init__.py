"""The race: its plan, who goes on, how it keeps to its time, and the record of it."""
