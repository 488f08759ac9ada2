"""One Accelerate training loop and the tasks that run on it."""
