"""What the tools share: trainings started, their logs read, published, compared and drawn."""
