"""A first search space, from a model, data and the devices at hand."""
