"""The checks of a configuration: the keys and values of Detectron2 that the torchvision engine honours."""
