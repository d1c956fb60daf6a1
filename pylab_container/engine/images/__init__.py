"""Images: the collection, one image, archives, and the way to and from registries."""
