"""`--require`: what it can ask for, how it is read, and what it takes out."""
