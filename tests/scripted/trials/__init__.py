"""A stand-in for the trial engine behind the same port: scripted curves and faults instead of training.

Put ``tests/scripted`` first on PYTHONPATH and every gang runs this. The curve depends on the config alone: the loss
falls towards a value that is best at learning rate 1e-4 and batch 32; from learning rate 1 on it explodes.
"""
