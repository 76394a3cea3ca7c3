"""The door to the transfer stage: what both stages run on. It knows no image, no model and no setting."""
