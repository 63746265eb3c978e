"""What is measured: device, data, memory, and short fine-tunes raced against each other."""
