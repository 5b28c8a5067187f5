"""What a user can get wrong: checks of values and settings, and what an error says."""
