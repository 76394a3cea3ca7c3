"""The images of a data set by index: where they lie, how they are read and decoded."""
