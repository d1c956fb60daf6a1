"""Networks: the collection, and the endpoints of containers on them."""
