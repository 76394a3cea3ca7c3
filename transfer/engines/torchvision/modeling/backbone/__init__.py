"""The ResNet and the FPN, with the normalisation layers they are built from."""
