"""What is wrong with a training configuration, before anything starts."""
