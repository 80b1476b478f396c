"""Tensors, weights, predictions: the networks, early-learning regularization, training and saliency."""
