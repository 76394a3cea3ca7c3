"""The annotated images by Detectron2's names, checked and read once for both engines."""
