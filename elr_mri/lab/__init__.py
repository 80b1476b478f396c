"""Room `lab`: do wrong labels mislead a network, and does early-learning regularization help? From the linear model to real scans."""
