"""What a person sees: the terminal while it runs and afterwards, and the HTML page."""
