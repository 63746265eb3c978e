"""What is known: the method catalogue, the benchmark table, models and GPUs. Loads no torch."""
