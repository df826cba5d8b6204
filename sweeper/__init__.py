"""Hyperparameter sweeps for fine-tuning small language models, pruned early and recorded truthfully."""
