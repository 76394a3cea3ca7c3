"""The data of LVIS (arXiv 1908.03195): COCO's images, over a thousand classes, labelled in part."""
