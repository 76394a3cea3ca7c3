"""The parts of Detectron2's vocabulary that the torchvision engine honours."""
