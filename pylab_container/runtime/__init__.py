"""What runs: the OCI runtime, its monitor, and the network that containers share."""
