"""What things look like: values only. No disk, no clock, no randomness, no other layer."""
