"""The augmentation recipes, their random parameters, and three ways to compute the pixels."""
