"""Networks as torch modules; scorers import them when they load weights, and training when it makes them."""
