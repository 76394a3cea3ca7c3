"""ResNet and FPN, with the normalisation layers they are built from."""
