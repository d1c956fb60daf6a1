"""The networks of containers: endpoints, addresses, links and names. Core."""
